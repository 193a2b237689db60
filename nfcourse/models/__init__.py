"""Models that are more than one flow, and flows put together for a purpose."""

from .image import multiscale, noise_flow

__all__ = ["multiscale", "noise_flow"]
