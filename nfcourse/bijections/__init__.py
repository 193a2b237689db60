"""Bijections: maps that return their value and their log-determinant together."""

from .base import Bijection, Compose, Inverse
from .coupling import Coupling, alternate_mask, half_mask
from .elementwise import Affine, Logit, PReLU, Sigmoid
from .linear import PLU, Permutation
from .norm import ActNorm, BatchNorm
from .transformers import AffineTransformer

__all__ = [
    "PLU",
    "ActNorm",
    "Affine",
    "AffineTransformer",
    "BatchNorm",
    "Bijection",
    "Compose",
    "Coupling",
    "Inverse",
    "Logit",
    "PReLU",
    "Permutation",
    "Sigmoid",
    "alternate_mask",
    "half_mask",
]
