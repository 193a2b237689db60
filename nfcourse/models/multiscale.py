"""Flows of images: the multi-scale architecture, and flows of the noise that dequantises."""

from collections.abc import Callable
from functools import partial

from torch import nn

from ..bases import StandardNormal
from ..bijections import (
    ActNorm,
    AffineTransformer,
    Compose,
    ConditionalAffine,
    MaskedCoupling,
    Sigmoid,
    Squeeze,
    checkerboard_mask,
    glow_step,
)
from ..events import as_event_shape
from ..flow import FactorOut, Flow
from ..nets import GlowNet

__all__ = ["multiscale", "noise_flow"]


def multiscale(
    shape: tuple[int, int, int],
    levels: int = 2,
    steps: int = 4,
    width: int = 64,
    transformer: Callable[[], nn.Module] = AffineTransformer,
    conditioner: Callable[..., nn.Module] = GlowNet,
    context_features: int = 0,
) -> Flow:
    r"""Return a multi-scale flow of images, Glow by default: as many scales as levels, one inside the other.

    A level squeezes and takes ``steps`` steps of Glow. Then half of the channels are factored out, with a Gaussian
    given the other half, which goes to the next level; the last level ends in a standard normal. Data may have any
    range: the first batch sets the scale, through the activation normalizations.

    Args:
        shape: Event shape ``(C, H, W)``; H and W are divisible by :math:`2^{\text{levels}}`.
        levels: Number of scales.
        steps: Steps per scale.
        width: Hidden channels of every network.
        transformer: Called for each coupling, returns its transformer.
        conditioner: Called as ``conditioner(n_in, n_out, width=width)`` for each coupling.
        context_features: Size of a context vector for the couplings, 0 for none.

    Raises:
        ValueError: If a number is smaller than one, or the sides are not divisible as said.

    Source: Dinh et al. (2017), section 3.6; Kingma and Dhariwal (2018), figure 2b.
    """
    c, h, w = shape = _image(shape, "multiscale")
    if min(levels, steps, width) < 1 or h % 2**levels or w % 2**levels:
        raise ValueError(
            "multiscale expects levels, steps, width >= 1 and sides that are divisible by 2^levels, got "
            f"{levels}, {steps}, {width} and {h} x {w}."
        )
    inner, half = (4 * c, h // 2, w // 2), (2 * c, h // 2, w // 2)
    net = partial(conditioner, width=width)
    scale = Compose(*[glow_step(inner, net, transformer(), context_features) for _ in range(steps)], Squeeze())
    if levels == 1:
        return Flow(StandardNormal(inner), scale)
    prior = Flow(StandardNormal(half), ConditionalAffine(GlowNet(2 * c, 4 * c, width), event_dim=3))
    deeper = multiscale(half, levels - 1, steps, width, transformer, conditioner, context_features)
    return Flow(FactorOut(prior, deeper), scale)


def noise_flow(
    shape: tuple[int, int, int],
    steps: int = 4,
    width: int = 32,
    transformer: Callable[[], nn.Module] = AffineTransformer,
    conditioner: Callable[..., nn.Module] = GlowNet,
) -> Flow:
    r"""Return a flow of noise in :math:`(0, 1)^{C \times H \times W}` given an image, for variational dequantisation.

    Checkerboard couplings that see the image, one scale and location for all, and a sigmoid. After
    :meth:`~nfcourse.flow.Flow.initialize` from uniform noise it is nearly uniform.

    Args:
        shape: Event shape ``(C, H, W)`` of the noise and of its context.
        steps: Number of couplings.
        width: Hidden channels of every network.
        transformer: Called for each coupling, returns its transformer.
        conditioner: Called as ``conditioner(n_in, n_out, width=width)`` for each coupling.

    Raises:
        ValueError: If ``steps`` is smaller than one.

    Source: Ho et al. (2019), section 3.1 and appendix.
    """
    shape = _image(shape, "noise_flow")
    if steps < 1:
        raise ValueError(f"noise_flow expects steps >= 1, got {steps}.")
    net = partial(conditioner, width=width)
    masks = [checkerboard_mask(shape, flip=k % 2 == 1) for k in range(steps)]
    couplings = [MaskedCoupling(m, net, transformer(), shape[0], context_dim=3) for m in masks]
    return Flow(StandardNormal(shape), Compose(*couplings, ActNorm(shape, share=3), Sigmoid(event_dim=3)))


def _image(shape: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    shape = as_event_shape(shape, name)
    if len(shape) != 3:
        raise ValueError(f"{name} expects a shape (C, H, W), got {shape}.")
    return shape
