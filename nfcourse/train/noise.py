"""Randomness: all of it follows from (seed, step), and the caller finds the generators as they were."""

import contextlib
import hashlib
import random
import threading
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["number", "seed_all", "turn"]


def number(*key: int | str) -> int:
    """Return a seed that depends on every part of the key, without pattern."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest()) >> 1


def seed_all(device: torch.device, *key: int | str) -> None:
    """Seed the global generators of torch, NumPy and Python, from which a model on this device and its data draw."""
    seed = number(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


_ONE_RUN = threading.RLock()


@contextlib.contextmanager
def turn(device: torch.device) -> Iterator[None]:
    """One run at a time has the generators and grad mode; the caller finds both as they were (on MPS, the CPU's only).

    Runs inside a run, of the same thread, are let through: they too put back what they found.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("fit needs gradients, and torch.inference_mode() allows none: call fit outside of it")
    with _ONE_RUN, torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        of_python, of_numpy = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
