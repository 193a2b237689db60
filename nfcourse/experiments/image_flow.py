r"""Glow and Flow++ on images of integers, with uniform or variational dequantisation, at full size.

::

    python -m nfcourse.experiments.image_flow --data fashion --epochs 50 \
        --out book/results/glow.json
    torchrun --standalone --nproc-per-node=4 -m nfcourse.experiments.image_flow \
        --data fashion --epochs 50 --checkpoint runs/glow --resume \
        --out book/results/glow.json

The flow ends in a sigmoid, so that its density lives on the cube of the dequantised pixels, and the black background,
a thin peak at the edge of the cube, is wide before it: at equal steps this saves much more than any other choice here.
The bound is a random number, and the file gives it for several draws of the noise. A run that stops is resumed from its
checkpoint and takes the steps that it would have taken. The weights of a finished run lie beside it, for
``train.load_weights``.
"""

import argparse
import json
import math
import os
import platform
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image

import nfcourse as nf
from nfcourse import data, train

#: data set -> levels of its pixels
LEVELS = {"fashion": 256, "fashion-small": 256, "mnist": 256, "digits": 17}

#: options that say where things are, not what is computed
PLACES = ("out", "samples", "checkpoint", "resume", "root", "device")


def load(name: str, root: str | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return training, validation and test images ``(n, 1, H, W)`` of integers; the split is fixed.

    A twentieth of the training set is held out for validation.
    """
    if name == "mnist":
        folder = root or os.environ.get("NFCOURSE_DATA")
        if folder is None:
            raise ValueError("--data mnist expects the folder of its files: --root FOLDER, or NFCOURSE_DATA.")
        read = partial(data.idx_images, folder)
    elif name == "fashion":
        read = partial(data.fashion_mnist, root=root)
    else:
        read = {"fashion-small": data.fashion_mnist_small, "digits": data.digits}[name]
    x, test = (read(split=part)[0] for part in ("train", "test"))
    side = math.isqrt(x[0].numel())
    x, test = (part.reshape(-1, 1, side, side) for part in (x, test))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[len(x) // 20 :]], x[order[: len(x) // 20]], test


def build(options: argparse.Namespace, shape: tuple[int, int, int]) -> nf.Dequantized:
    """Return the model that the options describe."""
    if options.model == "flowpp":
        how = {
            "transformer": partial(nf.LogisticMixtureTransformer, options.components),
            "conditioner": nf.GatedAttentionNet,
        }
    else:
        how = {}
    flow = nf.multiscale(shape, options.levels, options.depth, options.width, **how)
    variational = options.dequantization == "variational"
    noise = nf.noise_flow(shape, options.noise_depth, options.noise_width) if variational else None
    return nf.Dequantized(flow.then(nf.Sigmoid(event_dim=3)), LEVELS[options.data], event_dim=3, noise=noise)


@torch.no_grad()
def bits(model: nf.Dequantized, x: torch.Tensor, draws: int, batch: int, device: torch.device) -> list[float]:
    """Return the bound in bits per dimension, averaged over the images, once for each draw of the noise."""
    results = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for k in range(draws):
            torch.manual_seed(k)
            total = sum(model(part.to(device)).double().sum().item() for part in x.split(batch))
            results.append(float(nf.bits_per_dim(torch.tensor(total / len(x)), x[0].numel())))
    return results


@torch.no_grad()
def draw(model: nf.Dequantized, path: Path, levels: int, count: int = 16) -> None:
    """Write samples at temperatures 1, 0.7 and 0.5, a row each, the same noise in all; dark is a high value."""
    rows = []
    with torch.random.fork_rng():
        for temperature in (1.0, 0.7, 0.5):
            torch.manual_seed(0)
            rows.append(torch.cat(list(model.sample((count,), temperature=temperature)[:, 0]), 1))
    shades = 255 - torch.cat(rows).cpu() * 255 // (levels - 1)
    shades = shades.repeat_interleave(2, 0).repeat_interleave(2, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shades.to(torch.uint8).numpy()).save(path, lossless=True)


def hardware(device: torch.device) -> str:
    """Name the machine, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the options; what cannot be used ends the program with one clear line."""
    parser = argparse.ArgumentParser(prog="image_flow", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", choices=list(LEVELS), default="fashion-small")
    add("--root", help="folder of the files of --data fashion or mnist; default: the variable NFCOURSE_DATA")
    add("--model", choices=["glow", "flowpp"], default="glow")
    add("--dequantization", choices=["uniform", "variational"], default="uniform")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--epochs", type=int)
    for name, default, text in (
        ("levels", 2, "scales; the sides of the images are divisible by 2^levels"),
        ("depth", 8, "steps per scale"),
        ("width", 64, "hidden channels of each network"),
        ("components", 8, "of the logistic mixtures of flowpp"),
        ("noise-depth", 4, "couplings of the variational noise"),
        ("noise-width", 32, "hidden channels of its networks"),
        ("batch", 64, "images per step, over all processes"),
        ("draws", 5, "of the noise, in the test"),
    ):
        add(f"--{name}", type=int, default=default, help=f"{text}; default {default}")
    add("--validate-every", type=int, help="steps; default one epoch")
    add("--lr", type=float, default=1e-3)
    add("--seed", type=int, default=0)
    add("--device", help="default: a GPU if there is one")
    add("--compile", action="store_true")
    add("--out", type=Path, help="JSON file of the results; default: print them only")
    add("--samples", type=Path, help="picture of samples at temperatures 1, 0.7 and 0.5; the same noise in each row")
    add("--checkpoint", type=Path, help="folder for the state of the run and the weights")
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    options = parser.parse_args(arguments)
    for name in ("steps", "epochs", "levels", "depth", "width", "components", "noise_depth", "noise_width", "batch",
                 "draws", "validate_every", "lr"):  # fmt: skip
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{name.replace('_', '-')} expects a positive number, got {value}")
    if options.model == "flowpp" and options.width % 4:
        parser.error(f"--width expects a multiple of 4, the number of attention heads of flowpp, got {options.width}")
    side = 8 if options.data == "digits" else 28
    if side % 2**options.levels:
        parser.error(f"--levels: {side} x {side} images cannot be halved {options.levels} times")
    if options.resume and options.checkpoint is None:
        parser.error("--resume expects --checkpoint DIR")
    if options.checkpoint and (options.checkpoint / "state.safetensors").exists() and not options.resume:
        parser.error(f"{options.checkpoint} holds a run: pass --resume, or give another folder")
    return options


def run(options: argparse.Namespace, device: torch.device) -> dict:
    """Train and test; return what the JSON file says."""
    start = time.perf_counter()
    x, validation, test = load(options.data, options.root)
    shape = tuple(x.shape[1:])
    torch.manual_seed(options.seed)
    model = build(options, shape).to(device)
    folder = options.checkpoint
    history = train.fit(
        model,
        x,
        validation=validation,
        steps=options.steps,
        epochs=options.epochs,
        batch_size=options.batch,
        lr=options.lr,
        clip=1000.0,  # thousands of pixels make long gradients; only spikes are to be cut
        schedule="cosine",
        seed=options.seed,
        validate_every=options.validate_every,
        compile=options.compile,
        checkpoint=folder and folder / "state.safetensors",
    )
    if folder and _first():
        train.save_weights(model, folder / "weights.safetensors")
    if options.samples and _first():
        draw(model, options.samples, LEVELS[options.data])
    scores = bits(model, test, options.draws, options.batch, device)
    to_bits = 1 / (x[0].numel() * math.log(2))
    return {
        "what": "upper bounds on the bits per dimension of test images, one for each draw of the noise",
        "test": [round(score, 4) for score in scores],
        "train": [round(score, 4) for score in bits(model, x[: len(test)], 1, options.batch, device)],
        "validation": [round(loss * to_bits, 4) for loss in history.validation],
        "validation_steps": history.validation_steps,
        "best_step": history.best_step,
        "options": {
            k: v
            for k, v in vars(options).items()
            if k not in ("out", "samples", "checkpoint", "resume", "root", "device")
        },
        "seed": options.seed,
        "budget": {"steps": len(history.steps), "images_seen": len(history.steps) * options.batch},
        "images": {"train": len(x), "validation": len(validation), "test": len(test), "shape": list(shape)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "nfcourse": nf.__version__},
        "hardware": f"{hardware(device)}, {os.environ.get('WORLD_SIZE', '1')} processes",
        "seconds": {
            "training": round(history.seconds, 3),
            "this part of the run": round(time.perf_counter() - start, 3),
        },
    }


def _first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment and write its figures."""
    options = parse(arguments)
    with train.distributed() as device:
        try:
            result = run(options, torch.device(options.device) if options.device else device)
        except data.DataMissing as error:
            raise SystemExit(f"image_flow: {error}") from None
    if not _first():
        return
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    print(f"test: {min(result['test']):.4f} to {max(result['test']):.4f} bits per dimension")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        part = options.out.with_name(options.out.name + ".part")
        part.write_text(text)
        part.replace(options.out)  # a reader finds the old file or the whole new one


if __name__ == "__main__":
    main()
