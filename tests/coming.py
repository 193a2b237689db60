"""Toy versions of what later chapters need. The protocol carries all of them without a special case.

A planar layer (forward only), a rounded coupling and a modular shift on whole numbers, maps of the circle as an angle
and as a unit vector, a projection from the plane onto the sphere, a categorical base.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, OneHotCategorical

from nfcourse import MLP, Bijection
from nfcourse.bases import BaseDistribution
from nfcourse.bijections.transformers import Transformer
from nfcourse.events import check_dtype, check_event
from nfcourse.spaces import circle, cyclic, integers, positive, real, sphere


class Planar(Bijection):
    """x = z + u tanh(w.z + b), with w.u > -1: a bijection whose inverse has no closed form."""

    def __init__(self, dim):
        super().__init__()
        self.event_shape = (dim,)
        self.constrained = True
        self.w, self.u, self.b = (nn.Parameter(torch.ones(size)) for size in (dim, dim, ()))

    def forward(self, z, context=None):
        check_event(z, self.event_shape, "Planar", self.w)
        # the part of u along w is moved so that w.u > -1
        wu = self.w @ self.u
        u = self.u
        if self.constrained:
            u = u + (nn.functional.softplus(wu) - 1 - wu) * self.w / self.w.square().sum()
        a = z @ self.w + self.b
        x = z + u * a.tanh().unsqueeze(-1)
        return x, (1 + (self.w @ u) * (1 - a.tanh().square())).abs().log()


class Power(Bijection):
    """x = z^p on the positive half-line, written from data to base alone."""

    domain = codomain = positive
    event_shape = (2,)

    def __init__(self):
        super().__init__()
        self.log_power = nn.Parameter(torch.tensor(0.3))

    def inverse(self, x, context=None):
        check_event(x, self.event_shape, "Power", self.log_power)
        p = self.log_power.exp()
        return x**p, (self.log_power + (p - 1) * x.log()).sum(-1)


class Rounded(Transformer):
    """x = z + round(t) for whole numbers that travel as floats, with a straight-through gradient."""

    n_params, space = 1, integers

    def _shift(self, params):
        t = params[0]
        return t + (t.round() - t).detach()

    def forward(self, z, params):
        # the gradient passes, the value is a whole number again
        x = z + self._shift(params)
        return x + (x.round() - x).detach(), torch.zeros_like(z)

    def inverse(self, x, params):
        z = x - self._shift(params)
        return z + (z.round() - z).detach(), torch.zeros_like(x)


class ModularShift(Bijection):
    """x_2 = z_2 + 2 z_1 modulo K: a map of digits."""

    event_shape = (2,)

    def __init__(self, levels):
        super().__init__()
        self.levels, self.domain, self.codomain = levels, cyclic(levels), cyclic(levels)

    def _move(self, value, sign):
        check_event(value, self.event_shape, "ModularShift")
        a, b = value.unbind(-1)
        return torch.stack([a, (b + sign * 2 * a) % self.levels], -1), value.new_zeros(value.shape[:-1])

    def forward(self, z, context=None):
        return self._move(z, 1)

    def inverse(self, x, context=None):
        return self._move(x, -1)


class _Mobius(Bijection):
    r"""A map of the circle: with the angle a of z, tan(b / 2) = r tan(a / 2), and db/da = r / (cos² + r² sin²)(a/2)."""

    def __init__(self):
        super().__init__()
        self.log_ratio = nn.Parameter(torch.tensor(0.4))

    def _angle(self, a, log_ratio):
        check_dtype(a, log_ratio, "Mobius")
        r = log_ratio.exp()
        c, s = (a / 2).cos(), (a / 2).sin()
        return 2 * torch.atan2(r * s, c), log_ratio - (c.square() + (r * s).square()).log()


class CircleAngle(_Mobius):
    """The circle as one angle."""

    domain = codomain = circle
    event_shape = (1,)

    def forward(self, z, context=None):
        check_event(z, self.event_shape, "CircleAngle")
        x, log_derivative = self._angle(z, self.log_ratio)
        return x, log_derivative.sum(-1)

    def inverse(self, x, context=None):
        check_event(x, self.event_shape, "CircleAngle")
        z, log_derivative = self._angle(x, -self.log_ratio)
        return z, log_derivative.sum(-1)


class CircleVector(_Mobius):
    """The same map of the circle as a unit vector in the plane: J^T J of its extension is not what counts."""

    domain = codomain = sphere
    event_shape = (2,)

    def _vector(self, v, log_ratio):
        check_event(v, self.event_shape, "CircleVector")
        b, log_derivative = self._angle(torch.atan2(v[..., 1], v[..., 0]), log_ratio)
        return torch.stack([b.cos(), b.sin()], -1), log_derivative

    def forward(self, z, context=None):
        return self._vector(z, self.log_ratio)

    def inverse(self, x, context=None):
        return self._vector(x, -self.log_ratio)


class CircleAmbient(CircleVector):
    """Takes J^T J in ambient coordinates, of the map's conformal extension to the disc: twice the log-det."""

    def forward(self, z, context=None):
        x, log_det = super().forward(z, context)
        return x, 2 * log_det


class Stereographic(Bijection):
    """From the plane onto the sphere: the event grows from two to three numbers, the measure becomes area."""

    domain, codomain, event_shape = real, sphere, (2,)

    def forward(self, z, context=None):
        check_event(z, self.event_shape, "Stereographic")
        s = z.square().sum(-1, keepdim=True)
        return torch.cat([2 * z, s - 1], -1) / (s + 1), 2 * (2 / (s + 1)).log().squeeze(-1)

    def inverse(self, x, context=None):
        check_event(x, (3,), "Stereographic")
        z = x[..., :2] / (1 - x[..., 2:])
        return z, -2 * (2 / (z.square().sum(-1) + 1)).log()

    def forward_shape(self, shape):
        return (3,)

    def inverse_shape(self, shape):
        return (2,)


class _Digits(BaseDistribution):
    """Independent categorical digits, as floats."""

    has_rsample = False

    def __init__(self, logits, space):
        self.logits, self.space = logits, space
        super().__init__(logits.shape[:-2], logits.shape[-2:-1], validate_args=False)
        self.one_hot = Independent(OneHotCategorical(logits=logits), 1)

    def expand(self, batch_shape, _instance=None):
        return _Digits(self.logits.expand(*batch_shape, *self.logits.shape[-2:]), self.space)

    def draw(self, shape, temperature=1.0):
        values = torch.arange(self.logits.shape[-1]).to(self.logits)
        return self.one_hot.sample(shape) @ values

    def log_prob(self, value):
        log_p = self.logits.log_softmax(-1).expand(*value.shape, self.logits.shape[-1])
        return log_p.gather(-1, value.long().unsqueeze(-1)).squeeze(-1).sum(-1)


class CategoricalBase(nn.Module):
    """D digits of K values each, with learned probabilities."""

    def __init__(self, dim, levels):
        super().__init__()
        self.event_shape, self.levels = (dim,), levels
        self.logits = nn.Parameter(torch.randn(dim, levels))

    def forward(self, context: Tensor | None = None):
        return _Digits(self.logits, cyclic(self.levels))


class _UniformAngle(BaseDistribution):
    """The uniform law on the circle, as an angle or as a unit vector: density 1 / 2π against arc length."""

    has_rsample = False

    def __init__(self, space):
        self.space = space
        super().__init__(torch.Size(), torch.Size([1 if space == circle else 2]), validate_args=False)

    def draw(self, shape, temperature=1.0):
        angle = math.tau * torch.rand(*shape, 1) - math.pi
        return angle if self.space == circle else torch.cat([angle.cos(), angle.sin()], -1)

    def log_prob(self, value):
        return value.new_full(value.shape[:-1], -math.log(math.tau))


class UniformAngle(nn.Module):
    """The base for flows on the circle."""

    def __init__(self, space):
        super().__init__()
        self.space = space

    def forward(self, context=None):
        return _UniformAngle(self.space)


class ImageEncoder(nn.Module):
    """From an image (1, 4, 4) to n numbers."""

    def __init__(self, n):
        super().__init__()
        self.net = MLP(16, n, (8,), nn.Tanh, zero_init=False)

    def forward(self, image):
        return self.net(image.flatten(-3))
