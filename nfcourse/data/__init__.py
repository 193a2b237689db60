"""Every data set of the course: made from a seed, shipped with the package, or read from a folder."""

from .images import (
    DataMissing,
    digits,
    download_fashion_mnist,
    fashion_mnist,
    fashion_mnist_small,
    idx_images,
    read_idx,
)
from .toy import TOYS, Energy, Pinwheel, Toy, energy, pinwheel, toy

__all__ = [
    "TOYS",
    "DataMissing",
    "Energy",
    "Pinwheel",
    "Toy",
    "digits",
    "download_fashion_mnist",
    "energy",
    "fashion_mnist",
    "fashion_mnist_small",
    "idx_images",
    "pinwheel",
    "read_idx",
    "toy",
]
