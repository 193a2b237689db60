"""The numerical proofs themselves: each passes on the truth, fails on a lie, and refuses bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, StudentT, constraints

from nfcourse import MLP, Affine, Flow, StandardNormal, check


def normal(dim, scale=1.0):
    """A normal law with independent coordinates."""
    return Independent(Normal(torch.zeros(dim).double(), scale), 1)


def test_close(capsys):
    assert check.close("π", 3.1416, math.pi, tol=1e-4) == 3.1416
    assert capsys.readouterr().out == "✓ π: 3.142, expected 3.142 ± 0.0001\n"
    with pytest.raises(check.CheckFailed, match="at index .2,.; off by 0.5"):
        check.close("list", [0.0, 1.0, 2.5], [0.0, 1.0, 2.0], tol=0.1)
    with pytest.raises(check.CheckFailed, match="nan"):
        check.close("not a number", float("nan"), 0.0, tol=1e9)
    with pytest.raises(check.CheckFailed):
        check.close("opposite infinities", math.inf, -math.inf, tol=1e9)
    check.close("equal infinities", -math.inf, -math.inf, tol=0.0)
    with pytest.raises(ValueError, match="at least one number"):
        check.close("nothing to compare", torch.zeros(0), torch.zeros(0), tol=0.0)
    with pytest.raises(ValueError, match="one shape"):
        check.differs("a row and a column", torch.arange(3.0), torch.arange(3.0)[:, None], 1.0)
    with pytest.raises(ValueError, match="real numbers"):
        check.close("complex", torch.tensor([1 + 5j]), [1.0])
    check.close("bfloat16", torch.ones(2, dtype=torch.bfloat16), 1.0)


def test_average_allows_standard_errors(capsys):
    draws = np.random.default_rng(0).normal(2.0, 3.0, 10_000)
    error = draws.std(ddof=1) / 100
    assert check.average("mean", draws, 2.0) == draws.mean()
    line = f"✓ mean: {draws.mean():.4g} ± {error:.1g}, expected 2 (within 5 standard errors)"
    assert capsys.readouterr().out == f"{line}\n"
    check.average("on the edge", torch.from_numpy(draws), draws.mean() + 4.99 * error)
    with pytest.raises(check.CheckFailed, match="off by 5.01 standard errors, allowed 5") as failed:
        check.average("over the edge", draws, draws.mean() + 5.01 * error)
    assert abs(failed.value.miss - 5.01 / 5) < 1e-9
    check.average("a share", draws > 2.0, 0.5)
    with pytest.raises(check.CheckFailed, match="1 of 2 draws are not finite"):
        check.average("spoilt", [1.0, math.nan], 1.0)
    for bad, match in (
        ([1.0], "two draws"),
        ([2.0, 2.0], "all 2 draws are 2"),
        ([0.1] * 100, "all 100 draws are 0.1"),
        ([], "two draws"),
        ([[3.0, -3.0], [3.1, -3.1]], r"shape \(n,\)"),
        (draws * 1e200, "rescale"),
    ):
        with pytest.raises(ValueError, match=match):
            check.average("too little", bad, 2.0)
    with pytest.raises(ValueError, match="one number to find"):
        check.average("two numbers", draws, [2.0, 2.0])
    for errors in (0, -1, math.inf, "5"):
        with pytest.raises(ValueError, match="errors"):
            check.average("nonsense", draws, 2.0, errors=errors)


def test_differs_and_holds(capsys):
    check.differs("two ways", 1.65, 1.0, by=0.5)
    with pytest.raises(check.CheckFailed, match="within"):
        check.differs("one way", 1.0, 1.01, by=0.5)
    for nothing in (math.nan, [1.0, math.nan]):
        with pytest.raises(check.CheckFailed):
            check.differs("not a number confirms nothing", nothing, 5.0, by=0.5)
    check.differs("infinitely far", math.inf, 1.0, by=0.5)
    check.holds("  a fact", torch.tensor([True, True]))
    assert capsys.readouterr().out.endswith("\n  ✓ a fact\n")
    with pytest.raises(check.CheckFailed, match="index .1,"):
        check.holds("a lie", np.array([True, False]))
    t = torch.tensor([True])
    for odd in (t.all, lambda: False, math.nan, "False", (b for b in [False]), {False}, torch.tensor([]), 1):
        with pytest.raises(ValueError, match="expected a boolean"):
            check.holds("anything that is not nothing", odd)
    with pytest.raises(ValueError, match="by > 0"):
        check.differs("equal", 1.0, 1.0, by=0.0)


def test_long_verdicts_go_on_below(capsys):
    """No line is cut on the page, the mark stands alone at the left, and the error stays one line."""
    name = "the share of points that the left half of a very long and winding name of a measurement has"
    check.close(name, 1.0, 1.0, tol=0.1)
    check.differs(f"  {name}", 1.0, 2.0, by=0.1)
    check.holds(name, True)
    check.answer("ex-03-mistake", 3.0)
    check.check_bijection(Affine(2), name=name)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 76 and len(lines) >= 10
    assert lines[0].startswith("✓ the share of") and lines[1].startswith("  ") and lines[1][2] != " "
    first = next(k for k, line in enumerate(lines) if line.startswith("  ✓ the share"))
    assert lines[first + 1].startswith("    ") and lines[first + 1][4] != " "
    assert sum(line.lstrip()[0] in "✓✗" for line in lines) == 5
    said = " ".join(line.strip() for line in lines[:2])
    assert said == f"✓ {name}: 1, expected 1 ± 0.1", "words are lost"
    check.holds("det T =  1.00, as it  stands", True)
    assert capsys.readouterr().out == "✓ det T =  1.00, as it  stands\n"
    with pytest.raises(check.CheckFailed) as failed:
        check.close(name, 1.0, 2.0, tol=0.1)
    assert "\n" not in str(failed.value) and name in str(failed.value)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_integral(dim):
    low, high = (-8.0, 8.0) if dim == 1 else ([-8.0] * dim, [8.0] * dim)
    assert abs(check.integral(normal(dim).log_prob, low, high) - 1) < 1e-6
    with pytest.raises(check.CheckFailed):
        check.integral(lambda x: normal(dim).log_prob(x) + 0.01, low, high)


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (0.0, math.inf), ([0.0, 0.0], [1.0]), ([0.0] * 4, [1.0] * 4), (math.nan, 1.0)]
)
def test_integral_refuses_a_bad_box(low, high):
    with pytest.raises(ValueError, match="expects"):
        check.integral(lambda x: x[..., 0], low, high)


def test_integral_mc():
    proposal = Independent(StudentT(5.0, torch.zeros(6).double(), 1.2), 1)
    check.integral_mc(normal(6).log_prob, proposal, n=200_000)
    with pytest.raises(check.CheckFailed, match="off by"):
        check.integral_mc(lambda x: normal(6).log_prob(x) + 0.1, proposal, n=200_000)
    with pytest.raises(check.CheckFailed, match="standard errors"):
        check.integral_mc(normal(6).log_prob, proposal, n=100)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    check.integral_mc(normal(2).log_prob, normal(2, 1.5), n=10_000, tol=0.1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_mass():
    support = torch.arange(5)
    check.mass(lambda k: torch.full((len(k),), 0.2).log(), support)
    with pytest.raises(check.CheckFailed):
        check.mass(lambda k: torch.full((len(k),), 0.21).log(), support)


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=6),
    support=st.sampled_from([None, constraints.unit_interval, constraints.positive, constraints.nonnegative_integer]),
)
def test_validate_returns_the_data_or_says_what_is_wrong(values, support):
    x = torch.tensor(values, dtype=torch.float32)
    right = bool(torch.isfinite(x).all()) and (support is None or bool(support.check(x).all()))
    if right:
        assert check.validate(x, support) is x
    else:
        with pytest.raises(ValueError, match="pixels: expected"):
            check.validate(x, support, name="pixels")


@pytest.mark.parametrize("bad", [[1.0, 2.0], None, np.zeros(3), torch.zeros(2, dtype=torch.bool), torch.zeros(1) * 1j])
def test_validate_expects_a_tensor_of_real_numbers(bad):
    with pytest.raises(ValueError, match="expected"):
        check.validate(bad)


def test_validate_accepts_integers_and_vectors():
    assert check.validate(torch.arange(3)).dtype == torch.int64
    simplex = torch.tensor([[0.5, 0.5], [0.9, 0.2]])
    check.validate(simplex[:1], constraints.simplex)
    with pytest.raises(ValueError, match="at index"):
        check.validate(simplex, constraints.simplex)


def test_answers_are_looked_up_and_a_wrong_one_gets_a_hint(capsys):
    assert check.answer("ex-03-mistake", 9) and check.answer("ex-03-mistake", torch.tensor(9.0004))
    assert capsys.readouterr().out == "✓ ex-03-mistake: 9 (within 0.001 of the truth)\n" * 2
    assert not check.answer("ex-03-mistake", 3.0)
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("✗ ex-03-mistake: not yet") and "Hint: " in out and "within 0.001" in out
    assert "9" not in out, "the truth is given away"
    w = torch.tensor(9.0, requires_grad=True)
    for odd in (None, "half", [0.5, 0.5], [[1], [2, 3]], float("nan"), [w, w], 10**400, 1j, [[w]] * 2, {9}):
        assert not check.answer("ex-03-mistake", odd)
    out = " ".join(capsys.readouterr().out.split())
    assert "not answered yet" in out and "got str" in out and "got 2 numbers" in out
    assert check.answer("ex-10-count", [3072, 1]) and not check.answer("ex-10-count", [1, 3072])
    assert check.answer("ex-10-count", [w * 3072 / 9, w / 9])
    with pytest.raises(ValueError, match="did you mean 'ex-03-mistake'"):
        check.answer("ex-03-mistakes", 9)
    for odd in (3, None, ["ex-03-mistake"]):
        with pytest.raises(ValueError, match="there is no exercise"):
            check.answer(odd, 9)


def test_close_has_a_relative_tolerance():
    with pytest.raises(check.CheckFailed):
        check.close("a large number", -125_076.0, -125_076.02, tol=1e-3)
    check.close("a large number", -125_076.0, -125_076.02, rtol=1e-6)
    for far in (3.0, -math.inf):
        with pytest.raises(check.CheckFailed):
            check.close("an infinite expectation allows nothing", far, math.inf, rtol=1e-3)
    with pytest.raises(check.CheckFailed, match="allowed 0.125") as failed:
        check.close("a large number", -125_076.0, -125_077.0, rtol=1e-6)
    assert 7.9 < failed.value.miss < 8.1


def test_numbers_keep_the_digits_before_the_point(capsys):
    check.close("n", 125_076.4, 125_076.4, tol=1)
    check.close("p", 3.14159, 3.14159, tol=1e-3, digits=6)
    assert capsys.readouterr().out == "✓ n: 125076, expected 125076 ± 1\n✓ p: 3.14159, expected 3.14159 ± 0.001\n"


@pytest.mark.parametrize("bad", [-0.1, math.inf, math.nan, "1", None, [0.1, 0.2], torch.ones(2), 10**400], ids=repr)
def test_a_tolerance_is_a_finite_number(bad, capsys):
    """Else every claim would hold, or none."""
    law, support = normal(1, 1.5), torch.arange(2)
    for key, judge in (
        ("tol", lambda: check.close("x", 1.0, 5.0, tol=bad)),
        ("rtol", lambda: check.close("x", 1.0, 5.0, rtol=bad)),
        ("by", lambda: check.differs("x", math.inf, 5.0, by=bad)),
        ("tol", lambda: check.mass(lambda x: 0.0 * x, support, tol=bad)),
        ("tol", lambda: check.integral(normal(1).log_prob, -8.0, 8.0, tol=bad)),
        ("tol", lambda: check.integral_mc(normal(1).log_prob, law, n=1000, tol=bad)),
    ):
        with pytest.raises(ValueError, match=f"^{key} expects a finite number >= 0, got "):
            judge()
    assert capsys.readouterr().out == ""


def test_a_tolerance_may_be_a_scalar_of_numpy_or_torch(capsys):
    for tol in (np.float32(0.5), torch.tensor(0.5), torch.tensor(0.5, requires_grad=True)):
        check.close("x", 1.0, 1.2, tol=tol)
    assert set(capsys.readouterr().out.splitlines()) == {"✓ x: 1, expected 1.2 ± 0.5"}


def test_lines_of_a_verdict_stay_lines(capsys):
    check.close("det T\nof the map", 1.0, 1.0, tol=0.1)
    check.holds(f"  one\n{'word ' * 20}", True)
    first, second, third, *rest = capsys.readouterr().out.splitlines()
    assert (first, second, third) == ("✓ det T", "  of the map: 1, expected 1 ± 0.1", "  ✓ one")
    assert len(rest) == 2 and all(line.startswith("    word") and len(line) <= 76 for line in rest)


def test_misses_are_counted_in_tolerances():
    for call, miss in (
        (lambda: check.close("", 1.0, 2.0, tol=0.1), 10.0),
        (lambda: check.close("", [0.0, 1.0], [0.0, 2.0], tol=0.0), math.inf),
        (lambda: check.close("", math.nan, 2.0, tol=0.1), math.inf),
        (lambda: check.differs("", 1.0, 1.1, by=0.5), 5.0),
        (lambda: check.holds("", False), math.inf),
    ):
        with pytest.raises(check.CheckFailed) as failed:
            call()
        assert failed.value.miss == pytest.approx(miss)


def test_integral_says_that_the_box_is_too_small():
    with pytest.raises(check.CheckFailed, match="box may be too small"):
        check.integral(normal(1).log_prob, -1.0, 1.0, n=100)
    with pytest.raises(check.CheckFailed) as failed:
        check.integral(lambda x: normal(1).log_prob(x) + 0.1, -8.0, 8.0)
    assert "box" not in str(failed.value)


def test_integral_takes_the_method_of_a_module():
    flow = Flow(StandardNormal(2), Affine(2))
    assert check.integral(flow.log_prob, [-8, -8], [8, 8]) == check.integral(flow, [-8, -8], [8, 8])


def test_randomize_moves_every_parameter_and_repeats():
    first, second = (check.randomize(MLP(3, 4, (8,))) for _ in range(2))
    torch.manual_seed(0)
    assert all((p != 0).any() for p in first.parameters())
    assert sum(p.numel() for p in second.parameters()) == 3 * 8 + 8 + 8 * 4 + 4


def test_inputs_of_an_unknown_domain_must_be_given():
    with pytest.raises(ValueError, match="pass z"):
        check.draw_inputs(constraints.simplex, (3, 2))


def test_standard_normal_is_the_normal_of_torch():
    for shape in (3, (2, 3)):
        base = StandardNormal(shape).double()()
        x = base.sample((5,))
        want = Independent(Normal(torch.zeros_like(x[0]), 1.0), x.dim() - 1).log_prob(x)
        assert torch.allclose(base.log_prob(x), want) and base.expand((4,)).batch_shape == (4,)


@pytest.mark.parametrize("widths", [(0, 1, (4,)), (1, 0, (4,)), (1, 1, (0,))])
def test_mlp_refuses_empty_layers(widths):
    with pytest.raises(ValueError, match="widths"):
        MLP(*widths)
