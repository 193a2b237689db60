"""Bijections: maps that return their value and their log-determinant together."""

from .autoregressive import MAF, SlowMAF, masked_autoregressive
from .base import Bijection, Compose, Inverse
from .coupling import (
    NICE,
    Coupling,
    FlowPP,
    MaskedCoupling,
    RealNVP,
    SplineCoupling,
    alternate_mask,
    checkerboard_mask,
    half_mask,
)
from .elementwise import Affine, ConditionalAffine, Logit, PReLU, Sigmoid
from .image import Squeeze, glow_step
from .linear import PLU, Conv1x1, Permutation
from .norm import ActNorm, BatchNorm
from .transformers import AdditiveTransformer, AffineTransformer, LogisticMixtureTransformer, RQSTransformer

__all__ = [
    "MAF",
    "NICE",
    "PLU",
    "ActNorm",
    "AdditiveTransformer",
    "Affine",
    "AffineTransformer",
    "BatchNorm",
    "Bijection",
    "Compose",
    "ConditionalAffine",
    "Conv1x1",
    "Coupling",
    "FlowPP",
    "Inverse",
    "LogisticMixtureTransformer",
    "Logit",
    "MaskedCoupling",
    "PReLU",
    "Permutation",
    "RQSTransformer",
    "RealNVP",
    "Sigmoid",
    "SlowMAF",
    "SplineCoupling",
    "Squeeze",
    "alternate_mask",
    "checkerboard_mask",
    "glow_step",
    "half_mask",
    "masked_autoregressive",
]
