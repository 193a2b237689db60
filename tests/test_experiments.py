"""The full-size runs, at toy size: they write what they promise, resume to the same result, refuse what is wrong."""

import json

import pytest
import torch
from PIL import Image

from nfcourse import train
from nfcourse.experiments import image_flow
from nfcourse.train import files

TINY = "--data digits --depth 1 --width 8 --noise-depth 1 --noise-width 4 --batch 32 --draws 2 --device cpu".split()


def run(tmp_path, *extra, name="result"):
    """One run; its figures."""
    out = tmp_path / f"{name}.json"
    image_flow.main([*TINY, "--out", str(out), *extra])
    return json.loads(out.read_text())


def test_a_run_writes_all_its_figures(tmp_path):
    result = run(tmp_path, "--steps", "6", "--validate-every", "3", "--checkpoint", str(tmp_path / "a"),
                 "--samples", str(tmp_path / "samples.webp"))  # fmt: skip
    assert Image.open(tmp_path / "samples.webp").size == (2 * 16 * 8, 2 * 3 * 8)
    assert result["budget"] == {"steps": 6, "images_seen": 192}
    assert result["images"] == {"train": 1233, "validation": 64, "test": 500, "shape": [1, 8, 8]}
    assert len(result["test"]) == 2 and all(2 < bits < 5 for bits in result["test"] + result["train"])
    assert result["validation_steps"] == [3, 6] and len(result["validation"]) == 2
    assert result["seed"] == 0 and result["versions"]["torch"] and "CPU" in result["hardware"]
    assert result["seconds"]["training"] > 0 and result["parameters"] > 0
    assert str(tmp_path) not in json.dumps(result), "the file tells of a folder of this machine"

    options = image_flow.parse([*TINY, "--steps", "6"])
    model = image_flow.build(options, (1, 8, 8))
    train.load_weights(model, tmp_path / "a" / "weights.safetensors")
    test = image_flow.load("digits")[2]
    scores = image_flow.bits(model.eval(), test, 2, 32, torch.device("cpu"))
    assert scores == pytest.approx(result["test"], abs=1e-4)


class Killed(Exception):
    """Stands for a power cut."""


def test_a_killed_run_resumes_to_the_same_result(tmp_path, monkeypatch):
    settings = ["--dequantization", "variational", "--steps", "45"]
    whole = run(tmp_path, *settings, name="whole")
    checkpoint = [*settings, "--checkpoint", str(tmp_path / "c")]
    write = files.Checkpoint.write

    def write_and_die(self, history, best):
        write(self, history, best)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(files.Checkpoint, "write", write_and_die)
        run(tmp_path, *checkpoint)
    assert not (tmp_path / "result.json").exists()
    with pytest.raises(SystemExit):
        run(tmp_path, *checkpoint)
    resumed = run(tmp_path, *checkpoint, "--resume")
    for key in ("test", "train", "validation", "budget", "parameters"):
        assert resumed[key] == whole[key], key


def test_flow_plus_plus(tmp_path):
    result = run(tmp_path, "--model", "flowpp", "--components", "2", "--steps", "2", "--levels", "1")
    assert all(2 < bits < 6 for bits in result["test"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --steps --epochs is required"),
        (["--steps", "5", "--epochs", "1"], "not allowed with"),
        (["--steps", "0"], "--steps expects a positive number, got 0"),
        (["--steps", "5", "--lr", "nan"], "--lr expects a positive number, got nan"),
        (["--steps", "5", "--noise-depth", "-1"], "--noise-depth expects"),
        (["--steps", "5", "--data", "cifar"], "invalid choice"),
        (["--steps", "5", "--data", "fashion", "--levels", "3"], "28 x 28 images cannot be halved 3 times"),
        (["--steps", "5", "--model", "flowpp", "--width", "6"], "multiple of 4"),
        (["--steps", "5", "--resume"], "--resume expects --checkpoint"),
        (["--steps", "five"], "invalid int value"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        image_flow.main(arguments)
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_data_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"image_flow: .*train-images-idx3-ubyte"):
        image_flow.main(["--data", "mnist", "--root", str(tmp_path), "--steps", "5"])
