"""Models that are more than one flow, models that are no flows, and flows put together for a purpose."""

from .autoregressive import NADE, RNADE, PixelCNN, PixelRNN, receptive_field
from .image import multiscale, noise_flow

__all__ = ["NADE", "RNADE", "PixelCNN", "PixelRNN", "multiscale", "noise_flow", "receptive_field"]
