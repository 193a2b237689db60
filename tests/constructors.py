"""One dictionary of named bijections drives every layer's check; see test_bijections.py.

Each entry builds a bijection; ``CONTEXTS`` gives the shape of the context of those that need one,
``EVENTS`` the shape of a point where the layer does not fix it. A subclass of
``Bijection`` that no entry contains fails a test.
"""

from functools import partial

import torch
from coming import CircleAngle, CircleVector, ModularShift, Planar, Power, Rounded, Stereographic

from nfcourse import (
    MAF,
    MLP,
    NICE,
    PLU,
    ActNorm,
    AdditiveTransformer,
    Affine,
    BatchNorm,
    Compose,
    ConditionalAffine,
    Conv1x1,
    ConvNet,
    Coupling,
    FlowPP,
    GatedAttentionNet,
    Inverse,
    LogisticMixtureTransformer,
    Logit,
    MaskedCoupling,
    Permutation,
    PReLU,
    RealNVP,
    ResidualMLP,
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

small = partial(MLP, hidden=(16,), activation=torch.nn.Tanh)
wide = partial(MLP, hidden=(16,), zero_init=False)
maf = partial(MAF, hidden=(16, 12), activation=torch.nn.Tanh)
residual = partial(ResidualMLP, width=16, activation=torch.tanh)
conv = partial(ConvNet, width=8)
attention = partial(GatedAttentionNet, width=8, heads=2)
# steep splines amplify the rounding of float32 in the log-determinant; see tests of the transformers
mild_spline = partial(RQSTransformer, min_bin=0.03, min_derivative=0.1)


def trained_batch_norm(dim):
    """A BatchNorm whose running statistics are not the initial ones."""
    layer = BatchNorm(dim)
    layer.mean.copy_(torch.linspace(-1, 1, dim))
    layer.var.copy_(torch.linspace(0.5, 3, dim))
    return layer


CONSTRUCTORS = {
    "affine": lambda: Affine(3, loc=0.5, scale=2.0),
    "affine, two event dimensions": lambda: Affine((2, 3)),
    "affine, shared over positions": lambda: Affine((2, 3, 2), 0.5, 2.0, share=2),
    "affine, one pair for all": lambda: Affine((2, 3), share=2),
    "conditional affine": lambda: ConditionalAffine(small(2, 6)),
    "conditional affine, image": lambda: ConditionalAffine(conv(2, 6), event_dim=3),
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
    "actnorm, one pair per channel": lambda: ActNorm((2, 2, 2), share=2),
    "1x1 convolution": lambda: Conv1x1(3),
    "squeeze": lambda: Squeeze(),
    "glow step": lambda: glow_step((4, 2, 2), conv),
    "glow step, with an image as context": lambda: glow_step((2, 2, 2), conv, mild_spline(4), 1, 3),
    "one scale of glow": lambda: Compose(glow_step((4, 2, 2), conv), Squeeze()),
    "coupling, half": lambda: Coupling(half_mask(5), small),
    "coupling, half, flipped": lambda: Coupling(half_mask(5, flip=True), small),
    "coupling, alternate": lambda: Coupling(alternate_mask(5), small),
    "coupling, alternate, flipped": lambda: Coupling(alternate_mask(4, flip=True), small),
    "coupling, two dimensions": lambda: Coupling(half_mask(2), small),
    "coupling, with context": lambda: Coupling(half_mask(4), small, context_features=2),
    "coupling, additive": lambda: Coupling(half_mask(5), small, AdditiveTransformer()),
    "coupling, spline": lambda: Coupling(half_mask(5), small, RQSTransformer()),
    "coupling, spline, with context": lambda: Coupling(alternate_mask(4), residual, RQSTransformer(5), 2),
    "coupling, logistic mixture": lambda: Coupling(half_mask(5), residual, LogisticMixtureTransformer(3)),
    "coupling, logistic mixture, with context": lambda: Coupling(half_mask(4), small, LogisticMixtureTransformer(3), 2),
    "nice": lambda: NICE(5, 3, small),
    "real nvp": lambda: RealNVP(5, 3, small),
    "real nvp, with context": lambda: RealNVP(4, 3, small, 2),
    "spline coupling": lambda: SplineCoupling(5, 3, small),
    "flow++": lambda: FlowPP(5, 3, small, components=4),
    "image coupling, channels": lambda: Coupling(half_mask(4), conv, event_dim=3),
    "image coupling, one channel moves": lambda: Coupling(half_mask(3), conv, event_dim=3),
    "image coupling, spline, with context": lambda: Coupling(half_mask(4, True), conv, mild_spline(4), 2, event_dim=3),
    "image coupling, with an image as context": lambda: Coupling(half_mask(4), conv, None, 2, 3, 3),
    "image coupling, attention": lambda: Coupling(half_mask(4), attention, LogisticMixtureTransformer(3), event_dim=3),
    "masked coupling, checkerboard": lambda: MaskedCoupling(checkerboard_mask((1, 4, 4)), conv),
    "masked coupling, with context": lambda: MaskedCoupling(checkerboard_mask((2, 2, 2), True), conv, mild_spline(), 2),
    "masked coupling, of a vector": lambda: MaskedCoupling(alternate_mask(5), small),
    "maf": lambda: maf(5),
    "maf, reverse": lambda: maf(5, order="reverse"),
    "maf, random order": lambda: maf(10, order="random"),
    "maf, own order, with context": lambda: maf(4, order=[2, 0, 3, 1], context_features=2),
    "maf, no hidden layer": lambda: MAF(4, hidden=()),
    "maf, one dimension": lambda: maf(1),
    "maf, one dimension, with context": lambda: maf(1, context_features=2),
    "maf, additive": lambda: maf(3, transformer=AdditiveTransformer()),
    "maf, spline": lambda: maf(3, transformer=mild_spline(4), order="reverse"),
    "iaf": lambda: Inverse(maf(5, order="random")),
    "slow maf": lambda: SlowMAF(maf(5)),
    "slow maf, random order, with context": lambda: SlowMAF(maf(4, order="random", context_features=2)),
    "masked autoregressive": lambda: masked_autoregressive(4, 2, (16,)),
    "masked autoregressive, with context": lambda: masked_autoregressive(
        4, 2, (16,), order="random", context_features=2
    ),
    "inverse": lambda: Inverse(PLU(3)),
    "compose": lambda: Compose(ActNorm(4), PLU(4), PReLU(4), Affine(4)),
    "compose, with context": lambda: Compose(
        Coupling(alternate_mask(4), small, context_features=2),
        ActNorm(4),
        Coupling(alternate_mask(4, flip=True), small, context_features=2),
    ),
    "compose, to the unit interval": lambda: Compose(PLU(2), Affine(2), Sigmoid()),
    # what later chapters bring, in toy versions
    "planar": lambda: Planar(3),
    "planar, composed": lambda: Compose(Affine(3), Planar(3), Permutation([1, 2, 0]), Planar(3)),
    "power, from data to base": lambda: Power(),
    "rounded coupling": lambda: Coupling(half_mask(4), wide, Rounded()),
    "rounded coupling, with context": lambda: Coupling(half_mask(4), wide, Rounded(), 2),
    "rounded couplings of an image": lambda: Compose(
        Squeeze(),
        MaskedCoupling(checkerboard_mask((1, 2, 2)), conv, Rounded()),
    ),
    "modular shift": lambda: Compose(ModularShift(5), Permutation([1, 0]), ModularShift(5)),
    "circle, as an angle": lambda: CircleAngle(),
    "circle, as a unit vector": lambda: CircleVector(),
    "plane to sphere": lambda: Stereographic(),
}

#: the shape of one context, for those that need one
CONTEXTS = {
    "conditional affine": (2,),
    "conditional affine, image": (2, 2, 2),
    "glow step, with an image as context": (1, 2, 2),
    "maf, own order, with context": (2,),
    "maf, one dimension, with context": (2,),
    "slow maf, random order, with context": (2,),
    "masked autoregressive, with context": (2,),
    "coupling, with context": (2,),
    "compose, with context": (2,),
    "coupling, spline, with context": (2,),
    "coupling, logistic mixture, with context": (2,),
    "real nvp, with context": (2,),
    "image coupling, spline, with context": (2,),
    "image coupling, with an image as context": (2, 4, 4),
    "masked coupling, with context": (2,),
    "rounded coupling, with context": (2,),
}

#: the shape of one point, for layers that take more than one
EVENTS = {name: (4, 4, 4) for name in CONSTRUCTORS if name.startswith("image coupling")} | {
    "image coupling, one channel moves": (3, 4, 4),
    "conditional affine": (3,),
    "conditional affine, image": (3, 2, 2),
    "1x1 convolution": (3, 2, 4),
    "squeeze": (8, 2, 2),
    "sigmoid": (3,),
    "sigmoid, two event dimensions": (3, 3),
    "logit": (3,),
}
