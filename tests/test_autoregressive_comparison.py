"""The script behind chapter 10's table: budgets are met, runs repeat, and files join only if they were made alike."""

import json

import pytest

from nfcourse.experiments import autoregressive_comparison as comparison


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(comparison, "BUDGETS", {"moons": (600, 3, 2), "pinwheel": (600, 3, 2)})
    monkeypatch.setattr(comparison, "DEPTHS", (2,))


@pytest.mark.parametrize("flow", comparison.FLOWS)
@pytest.mark.parametrize("dataset", comparison.BUDGETS)
def test_width_meets_the_budget(flow, dataset):
    budget = comparison.BUDGETS[dataset][0]
    for depth in comparison.DEPTHS:
        width = comparison.fitting_width(flow, dataset, depth)
        weights = comparison.open_weights(comparison.build(flow, dataset, depth, width))
        assert abs(weights - budget) < 0.05 * budget


def test_closed_weights_do_not_count():
    model = comparison.build("affine autoregressive", "digits", 4, 64)
    masked = [m for m in model.modules() if isinstance(m, comparison.nf.nets.MaskedLinear)]
    closed = sum(int((m.mask == 0).sum()) for m in masked)
    assert closed > 0
    assert comparison.open_weights(model) == sum(p.numel() for p in model.parameters()) - closed


def test_file_has_all_that_the_chapter_shows(small, tmp_path):
    out = tmp_path / "results" / "race.json"
    comparison.main(["--data", "pinwheel", "--seeds", "0", "1", "--out", str(out)])
    first = json.loads(out.read_text())
    assert [row["flow"] for row in first["rows"]] == list(comparison.FLOWS)
    assert all(len(row["nll"]) == 2 and row["lr"] in comparison.RATES for row in first["rows"])
    assert first["floor"]["pinwheel"] < min(min(row["nll"]) for row in first["rows"])
    assert {"seeds", "versions", "budget", "seconds", "hardware"} <= first.keys()

    comparison.main(["--data", "moons", "--seeds", "0", "1", "--out", str(out)])
    joined = json.loads(out.read_text())
    assert list(joined["budget"]) == ["moons", "pinwheel"]
    assert joined["rows"][4:] == first["rows"]

    comparison.main(["--data", "moons", "--seeds", "0", "--out", str(out)])
    assert list(json.loads(out.read_text())["budget"]) == ["moons"], "other seeds: nothing to join"


def test_runs_repeat(small):
    width = comparison.fitting_width("affine coupling", "moons", 2)
    first, second = (comparison.run("affine coupling", "moons", 2, width, 1e-3, seed=1)["nll"] for _ in range(2))
    assert first == second
