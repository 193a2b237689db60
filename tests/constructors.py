"""One dictionary of named bijections drives every layer's check; see test_bijections.py.

Each entry builds a bijection; ``CONTEXTS`` gives the size of the context of those that need one. A subclass of
``Bijection`` that no entry contains fails a test.
"""

from functools import partial

import torch

from nfcourse import (
    MLP,
    PLU,
    ActNorm,
    Affine,
    BatchNorm,
    Compose,
    Coupling,
    Inverse,
    Logit,
    Permutation,
    PReLU,
    Sigmoid,
    alternate_mask,
    half_mask,
)

small = partial(MLP, hidden=(16,), activation=torch.nn.Tanh)


def trained_batch_norm(dim):
    """A BatchNorm whose running statistics are not the initial ones."""
    layer = BatchNorm(dim)
    layer.mean.copy_(torch.linspace(-1, 1, dim))
    layer.var.copy_(torch.linspace(0.5, 3, dim))
    return layer


CONSTRUCTORS = {
    "affine": lambda: Affine(3, loc=0.5, scale=2.0),
    "affine, two event dimensions": lambda: Affine((2, 3)),
    "prelu": lambda: PReLU(3, slope=0.2),
    "prelu, steep": lambda: PReLU(3, slope=5.0),
    "prelu, one dimension": lambda: PReLU(1),
    "sigmoid": lambda: Sigmoid(),
    "sigmoid, two event dimensions": lambda: Sigmoid(event_dim=2),
    "logit": lambda: Logit(),
    "plu": lambda: PLU(4),
    "plu, 16 dimensions": lambda: PLU(16),
    "permutation": lambda: Permutation([2, 0, 3, 1]),
    "batch norm": lambda: trained_batch_norm(3),
    "batch norm, two event dimensions": lambda: BatchNorm((2, 2)),
    "actnorm": lambda: ActNorm(3),
    "coupling, half": lambda: Coupling(half_mask(5), small),
    "coupling, half, flipped": lambda: Coupling(half_mask(5, flip=True), small),
    "coupling, alternate": lambda: Coupling(alternate_mask(5), small),
    "coupling, alternate, flipped": lambda: Coupling(alternate_mask(4, flip=True), small),
    "coupling, two dimensions": lambda: Coupling(half_mask(2), small),
    "coupling, with context": lambda: Coupling(half_mask(4), small, context_features=2),
    "inverse": lambda: Inverse(PLU(3)),
    "compose": lambda: Compose(ActNorm(4), PLU(4), PReLU(4), Affine(4)),
    "compose, with context": lambda: Compose(
        Coupling(alternate_mask(4), small, context_features=2),
        ActNorm(4),
        Coupling(alternate_mask(4, flip=True), small, context_features=2),
    ),
    "compose, to the unit interval": lambda: Compose(PLU(2), Affine(2), Sigmoid()),
}

CONTEXTS = {"coupling, with context": 2, "compose, with context": 2}
