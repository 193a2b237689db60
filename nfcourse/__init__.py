"""nfcourse: the package behind *Normalizing Flows: from Measures to Mixtures*."""

import importlib

from . import bijections, check, flow, models, nets, spaces
from .bases import ConditionalNormal, DiagonalNormal, StandardNormal
from .bijections import (
    MAF,
    NICE,
    PLU,
    ActNorm,
    AdditiveTransformer,
    Affine,
    AffineTransformer,
    BatchNorm,
    Bijection,
    Compose,
    ConditionalAffine,
    Conv1x1,
    Coupling,
    FlowPP,
    Inverse,
    LogisticMixtureTransformer,
    Logit,
    MaskedCoupling,
    Permutation,
    PReLU,
    RealNVP,
    RQSTransformer,
    Sigmoid,
    SlowMAF,
    SplineCoupling,
    Squeeze,
    alternate_mask,
    checkerboard_mask,
    glow_step,
    half_mask,
    masked_autoregressive,
)
from .dequantize import Dequantized, bits_per_dim
from .flow import FactorOut, Flow
from .models import NADE, RNADE, PixelCNN, PixelRNN, multiscale, noise_flow, receptive_field
from .nets import MADE, MLP, ConvNet, GatedAttentionNet, GlowNet, ResidualMLP
from .show import show

__version__ = "0.1.0"

#: modules that load more than torch: pictures, files, data; each is imported when it is first named
_LAZY = ("data", "plot", "schematic", "train", "widgets")


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "MADE",
    "MAF",
    "MLP",
    "NADE",
    "NICE",
    "PLU",
    "RNADE",
    "ActNorm",
    "AdditiveTransformer",
    "Affine",
    "AffineTransformer",
    "BatchNorm",
    "Bijection",
    "Compose",
    "ConditionalAffine",
    "ConditionalNormal",
    "Conv1x1",
    "ConvNet",
    "Coupling",
    "Dequantized",
    "DiagonalNormal",
    "FactorOut",
    "Flow",
    "FlowPP",
    "GatedAttentionNet",
    "GlowNet",
    "Inverse",
    "LogisticMixtureTransformer",
    "Logit",
    "MaskedCoupling",
    "PReLU",
    "Permutation",
    "PixelCNN",
    "PixelRNN",
    "RQSTransformer",
    "RealNVP",
    "ResidualMLP",
    "Sigmoid",
    "SlowMAF",
    "SplineCoupling",
    "Squeeze",
    "StandardNormal",
    "alternate_mask",
    "bijections",
    "bits_per_dim",
    "check",
    "checkerboard_mask",
    "data",
    "flow",
    "glow_step",
    "half_mask",
    "masked_autoregressive",
    "models",
    "multiscale",
    "nets",
    "noise_flow",
    "plot",
    "receptive_field",
    "schematic",
    "show",
    "spaces",
    "train",
    "widgets",
]
