"""Models that are more than one flow, models that are no flows, and flows put together for a purpose."""

from .autoregressive import NADE, RNADE
from .multiscale import multiscale, noise_flow
from .pixel import PixelCNN, PixelRNN, receptive_field

__all__ = ["NADE", "RNADE", "PixelCNN", "PixelRNN", "multiscale", "noise_flow", "receptive_field"]
