"""nfcourse: the package behind *Normalizing Flows: from Measures to Mixtures*."""

from . import bijections, check, data, flow, nets, plot, train, widgets
from .bijections import (
    PLU,
    ActNorm,
    AdditiveTransformer,
    Affine,
    AffineTransformer,
    BatchNorm,
    Bijection,
    Compose,
    Coupling,
    Inverse,
    LogisticMixtureTransformer,
    Logit,
    Permutation,
    PReLU,
    RQSTransformer,
    Sigmoid,
    alternate_mask,
    half_mask,
)
from .flow import ConditionalNormal, Dequantized, DiagonalNormal, Flow, StandardNormal, bits_per_dim
from .nets import MLP
from .show import show

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "PLU",
    "ActNorm",
    "AdditiveTransformer",
    "Affine",
    "AffineTransformer",
    "BatchNorm",
    "Bijection",
    "Compose",
    "ConditionalNormal",
    "Coupling",
    "Dequantized",
    "DiagonalNormal",
    "Flow",
    "Inverse",
    "Logit",
    "LogisticMixtureTransformer",
    "PReLU",
    "RQSTransformer",
    "Permutation",
    "Sigmoid",
    "StandardNormal",
    "alternate_mask",
    "bijections",
    "bits_per_dim",
    "check",
    "data",
    "flow",
    "half_mask",
    "nets",
    "plot",
    "show",
    "train",
    "widgets",
]
