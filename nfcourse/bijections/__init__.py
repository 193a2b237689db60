"""Bijections: maps that return their value and their log-determinant together."""

from .base import Bijection, Compose, Inverse
from .coupling import Coupling, alternate_mask, half_mask
from .elementwise import Affine, Logit, PReLU, Sigmoid
from .linear import PLU, Permutation
from .norm import ActNorm, BatchNorm
from .transformers import AdditiveTransformer, AffineTransformer, LogisticMixtureTransformer, RQSTransformer

__all__ = [
    "PLU",
    "ActNorm",
    "AdditiveTransformer",
    "Affine",
    "AffineTransformer",
    "BatchNorm",
    "Bijection",
    "Compose",
    "Coupling",
    "Inverse",
    "Logit",
    "LogisticMixtureTransformer",
    "PReLU",
    "RQSTransformer",
    "Permutation",
    "Sigmoid",
    "alternate_mask",
    "half_mask",
]
