"""Networks that compute parameters: conditioners, encoders, decoders."""

from .image import ConvNet, GatedAttentionNet, GlowNet
from .made import MADE, MaskedLinear
from .mlp import MLP, ResidualMLP

__all__ = ["MADE", "MLP", "ConvNet", "GatedAttentionNet", "GlowNet", "MaskedLinear", "ResidualMLP"]
