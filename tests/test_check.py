"""The numerical proofs themselves: each passes on the truth, fails on a lie, and refuses bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, StudentT, constraints

from nfcourse import MLP, StandardNormal, check


def normal(dim, scale=1.0):
    """A normal law with independent coordinates."""
    return Independent(Normal(torch.zeros(dim).double(), scale), 1)


def test_close(capsys):
    assert check.close("π", 3.1416, math.pi, tol=1e-4) == 3.1416
    assert capsys.readouterr().out == "π: 3.142, expected 3.142, tolerance 0.0001: ok\n"
    with pytest.raises(check.CheckFailed, match="at index .2,.; off by 0.5"):
        check.close("list", [0.0, 1.0, 2.5], [0.0, 1.0, 2.0], tol=0.1)
    with pytest.raises(check.CheckFailed, match="nan"):
        check.close("not a number", float("nan"), 0.0, tol=1e9)
    with pytest.raises(check.CheckFailed):
        check.close("opposite infinities", math.inf, -math.inf, tol=1e9)
    check.close("equal infinities", -math.inf, -math.inf, tol=0.0)
    check.close("nothing to compare", torch.zeros(0), torch.zeros(0), tol=0.0)


def test_differs_and_holds(capsys):
    check.differs("two ways", 1.65, 1.0, by=0.5)
    with pytest.raises(check.CheckFailed, match="within"):
        check.differs("one way", 1.0, 1.01, by=0.5)
    check.holds("a fact", torch.tensor([True, True]))
    assert capsys.readouterr().out.endswith("a fact: True\n")
    with pytest.raises(check.CheckFailed, match="index .1,"):
        check.holds("a lie", np.array([True, False]))


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


def test_answer_never_raises(capsys):
    assert check.answer("area", 0.5, 0.5) and not check.answer("area", 0.6, 0.5)
    assert not check.answer("area", None, 0.5) and not check.answer("area", "half", 0.5)
    assert not check.answer("area", [0.5, 0.5], 0.5) and check.answer("list", [1, 2], torch.tensor([1.0, 2.0]))
    out = capsys.readouterr().out
    assert "correct" in out and "not yet" in out and "not answered yet" in out and "str" in out


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
