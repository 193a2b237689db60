"""The star that becomes the pinwheel, as the figures draw it."""

import functools
from collections.abc import Callable

import numpy as np
import torch

from ..data import Pinwheel
from .frame import double, level_sets, rounded


def jacobian(f: Callable, z) -> np.ndarray:
    """Return the Jacobian of a map of tensors at a point."""
    return torch.func.jacrev(f)(double(z)).numpy()


@functools.cache
def the_star() -> tuple[Pinwheel, list[np.ndarray], list[list[np.ndarray]]]:
    """The star, points of each of its arms, and the regions that hold 90 and 50 % of its mass."""
    star, full = Pinwheel(twist=0.0), Pinwheel()
    x, k = full.sample(600, seed=3, labels=True)
    w = full.untwist(x.double()).numpy()
    t = np.linspace(-4.2, 4.2, 421)
    density = star.log_prob(double(np.stack(np.meshgrid(t, t), -1))).exp().numpy()
    arms = [rounded(w[k.numpy() == arm]) for arm in range(full.k)]
    return star, arms, level_sets(density, t, t, (0.9, 0.5))
