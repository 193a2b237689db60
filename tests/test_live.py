"""Figures to drag: the same bytes each time; in a browser the package's numbers, by mouse, touch and keyboard."""

import functools
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import browsing
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import Normal

import nfcourse as nf
from nfcourse import data
from nfcourse import live as package
from nfcourse.live import NAMES, frame, live
from nfcourse.live import autoregressive as orders
from nfcourse.live import coupling as spline
from nfcourse.live import darts as thrown
from nfcourse.live import ruler as weighed

ROOT = Path(__file__).parents[1]
ALT = "What the figure shows."

#: states in which the browser's numbers are held against the package's: ordinary ones, and the ends of every range
STATES = {
    "hero": [
        {},
        {"strength": 0.0},
        {"strength": 0.37, "w": [2.0, 0.1]},
        {"strength": 1.0, "inflate": True, "w": [0.0, 0.0]},
        {"strength": 0.5, "inflate": True, "w": [-2.4, 2.4]},
        {"strength": 1.0, "inflate": True, "w": [0.0, -3.5]},
        {"strength": 0.0, "inflate": True, "w": [1e-7, 0.0]},
    ],
    "twist": [
        {},
        {"map": "twist"},
        {"side": 0.001},
        {"side": 2.0, "cell": [2.0, -2.2]},
        {"map": "twist", "side": 2.0, "cell": [0.0, 3.0]},
        {"cell": [0.0, 0.0], "side": 1.0},
        {"cell": [0.4, 0.0], "side": 0.8},
        {"cell": [-3.0, 0.0], "side": 0.03},
    ],
    "darts": [
        {},
        {"n": 20_000, "seed": 0},
        {"n": 100, "seed": 9, "board": [[-5.0, -0.5], [1.5, 3.4]]},
        {"n": 3000, "board": [[-4.25, 0.6], [0.6, 2.5]]},
        {"n": 10_000, "seed": 7, "board": [[-2.0, 0.0], [1.0, 2.0]]},
        {"n": 300, "board": [[-1.5, 2.0], [-1.25, 2.25]]},
        {"board": [[1.25, -0.5], [1.5, -0.25]]},
    ],
    "ruler": [
        {},
        {"centre": -3.95, "width": 0.001},
        {"centre": 4.0, "width": 2.0},
        {"law": "relu", "width": 0.001},
        {"law": "relu", "centre": 0.05, "width": 0.1},
        {"law": "relu", "centre": -0.5, "width": 1.0},
        {"law": "relu", "centre": 7.0, "width": 1.7},
        {"law": "cantor", "centre": 0.25, "width": 0.001},
        {"law": "cantor", "centre": 0.0, "width": 0.03},
        {"law": "cantor", "centre": 0.5, "width": 0.3},
        {"law": "cantor", "centre": 0.96875, "width": 0.0625},
        {"law": "die", "centre": 3.5, "width": 1.0},
        {"law": "die", "centre": 3.0, "width": 0.002},
        {"law": "die", "centre": -3.0, "width": 2.0},
    ],
    "coupling": [
        {},
        {"passes": 2, "x": [0.7, -1.9]},
        {"x": [3.3, 3.3]},
        {"x": [-3.3, 2.999999]},
        {"x": [3.3, -3.0]},
        {"knots": [[-2.9, 2.8], [-2.8, 2.9]], "slopes": [0.05, 20.0], "x": [3.3, -2.85]},
        {"knots": [[2.8, -2.9], [2.9, -2.8]], "slopes": [20.0, 0.05], "x": [2.0, 2.95]},
        {"knots": [[-1.0, 1.0], [1.0, 1.2]], "slopes": [1.0, 1.0], "passes": 2, "x": [1.0, 3.0]},
    ],
    "autoregressive": [
        {},
        {"order": "21"},
        {"x": [0.0, 0.0]},
        {"x": [-3.8, 6.3]},
        {"order": "21", "x": [8.8, -6.3]},
        {"x": [8.8, 0.0]},
    ],
}
CASES = [(name, k) for name in NAMES for k in range(len(STATES[name]))]


def double(v):
    return torch.tensor(v, dtype=torch.float64)


def default(name, key):
    return package._FIGURES[name].parameters[key][0]


def inflated(x, rate):
    """x sinh(rate |x|) / (rate |x|), by its series near 0."""
    r = rate * x.norm(dim=-1, keepdim=True)
    return x * torch.where(r < 1e-3, 1 + r**2 / 6, r.clamp_min(1e-3).sinh() / r.clamp_min(1e-3))


def log_det(f, z):
    return float(torch.linalg.slogdet(torch.func.jacrev(f)(z)).logabsdet)


def hero(strength, inflate, w):
    w = double(w)
    wheel = data.Pinwheel(twist=strength)

    def f(w):
        x = wheel.twist_map(w)
        return inflated(x, 0.3 * strength) if inflate and strength else x

    x, star = f(w), float(data.Pinwheel(twist=0.0).log_prob(w))
    det = log_det(f, w) if float(w.norm()) else 0.0
    log_prob = star - det if inflate else float(wheel.log_prob(x))
    return {
        "strength": strength,
        "w": w.tolist(),
        "x": x.tolist(),
        "log_star": star,
        "log_det": det,
        "log_prob": log_prob,
    }


def twist(cell, side, map):
    z, wheel = double(cell), data.Pinwheel()

    def f(z):
        x = wheel.twist_map(z)
        return inflated(x, 0.5) if map == "inflate" else x

    # the mean of |det J| over the cell, by a rule that never sees the image
    node, weight = np.polynomial.legendre.leggauss(40)
    u = np.stack(np.meshgrid(node, node), -1).reshape(-1, 2) / 2
    dets = torch.linalg.det(torch.func.vmap(torch.func.jacrev(f))(z + side * double(u))).abs()
    ratio = float(dets @ double(np.outer(weight, weight).ravel() / 4))
    det = math.exp(log_det(f, z)) if float(z.norm()) else 1.0
    log_base = float(data.Pinwheel(twist=0.0).log_prob(z))
    return {"cell": cell, "side": side, "image": f(z).tolist(), "ratio": ratio, "det": det,
            "log_base": log_base, "log_prob": log_base - math.log(det)}  # fmt: skip


def coupling(passes, knots, slopes, x):
    t = nf.RQSTransformer(bins=3, bound=3.0)
    theta = spline._raw(knots, slopes)
    xs, zs = t._knots(theta[:6])
    assert np.allclose(torch.stack([xs, zs], 1)[1:-1], knots)  # the logits give the knots that the reader has set
    i, m = passes - 1, 2 - passes
    gate = torch.sigmoid(2 * double(x[i]))
    zb, log_dz = t.inverse(double(x[m]), gate * theta)
    back, log_dx = t.forward(zb, gate * theta)
    z = [x[i], float(zb)] if passes == 1 else [float(zb), x[i]]
    log_prob = float(nf.StandardNormal(2)().log_prob(double(z))) + float(log_dz)
    return {"theta": theta.tolist(), "gate": float(gate), "x": x, "z": z, "back": float(back),
            "log_dz_dx": float(log_dz), "log_dx_dz": float(log_dx), "log_prob": log_prob}  # fmt: skip


def autoregressive(order, x):
    one, two = double(x[0]), double(x[1])

    def p(a, b):
        return Normal(0.0, 2.0).log_prob(double(b)) + Normal(double(b) ** 2 / 4, 1.0).log_prob(double(a))

    log_p, peak = float(p(*x)), 2 * math.sqrt(max(x[0], 0.0))
    top = max(float(p(x[0], b)) for b in np.linspace(0, 8, 81))  # x1 may be rare: integrate relative to the peak
    mass, square = (
        2 * quad(lambda b, k=k: b**k * math.exp(float(p(x[0], b)) - top), 0, 12, points=[peak] if peak else None,
                 epsabs=1e-13, limit=200)[0] for k in (0, 2)
    )  # fmt: skip
    log_first, variance = math.log(mass) + top, square / mass
    heads = {
        "21": [(two**2 / 4, 0.0), (0.0, math.log(2))],
        "12": [(1.0, math.log(3) / 2), (0.0, math.log(variance) / 2)],
    }
    z, log_q = {}, {}
    for o, parameters in heads.items():
        t = nf.AffineTransformer(clamp=5.0)
        shift = double([float(m) for m, _ in parameters])
        raw = double([s / (1 - abs(s) / 5) for _, s in parameters])
        z[o], log = t.inverse(torch.stack([one, two]), (shift, raw))
        log_q[o] = float(nf.StandardNormal(2)().log_prob(z[o]) + log.sum())
    first = float(Normal(0.0, 2.0).log_prob(two))
    return {"x": x, "z": z[order].tolist(), "log_p": log_p, "chain_21": [first, log_p - first],
            "chain_12": [log_first, log_p - log_first], "log_q_21": log_q["21"], "log_q_12": log_q["12"],
            "variance": variance}  # fmt: skip


def mulberry(seed):
    """The generator, in whole numbers."""
    a, mask = 1000 * seed, 2**32 - 1
    while True:
        a = (a + 0x6D2B79F5) & mask
        t = (a ^ (a >> 15)) * (a | 1) & mask
        t ^= (t + ((t ^ (t >> 7)) * (t | 61) & mask)) & mask
        yield ((t ^ (t >> 14)) & mask) / 2**32


ARM = data.pinwheel(inflate=0.5)


def in_ellipse(w):
    """Two standard deviations of the first blob, by its mean and covariance."""
    means, covariances = ARM.blobs
    off = w - means[0]
    return torch.einsum("...i,ij,...j->...", off, torch.linalg.inv(covariances[0]), off) <= 4


@functools.cache
def area_of_the_arm():
    """The integral of |det J| over the ellipse, with determinants by autograd and another rule."""
    node, weight = np.polynomial.legendre.leggauss(60)
    s, t = np.meshgrid((node + 1) / 2, math.pi * (node + 1))
    w = double(np.stack([2 + s * np.cos(t), 0.4 * s * np.sin(t)], -1).reshape(-1, 2).tolist())
    dets = torch.linalg.det(torch.func.vmap(torch.func.jacrev(ARM.warp))(w)).abs().numpy().reshape(60, 60)
    return float((np.outer(math.pi * weight, weight / 2) * 0.4 * s * dets).sum())


def darts(board, n, seed):
    (x0, y0), (x1, y1) = board
    draws = mulberry(seed)
    x = double([[x0 + next(draws) * (x1 - x0), y0 + next(draws) * (y1 - y0)] for _ in range(n)])
    hits, wide = int(in_ellipse(ARM.unwarp(x)).sum()), (x1 - x0) * (y1 - y0)
    share = hits / n
    cut = x0 > -4.217 or y0 > 0.558 or x1 < 0.681 or y1 < 2.412  # what it fills, to three digits
    return {"board": board, "hits": hits, "board_area": wide, "estimate": wide * share,
            "standard_error": wide * math.sqrt(share * (1 - share) / n), "area": area_of_the_arm(),
            "cut": int(cut)}  # fmt: skip


def cantor(x):
    """The distribution function at a float, from its ternary digits in fractions."""
    x, value, scale = Fraction(x), Fraction(0), Fraction(1)
    if not 0 < x < 1:
        return float(x >= 1)
    for _ in range(60):
        scale /= 2
        digit = math.floor(3 * x)
        x = 3 * x - digit
        value += scale * (digit > 0)
        if digit == 1:
            break
    return float(value)


def ruler(law, centre, width):
    low, high = {"gaussian": (-4, 4), "relu": (-1, 3), "cantor": (-0.5, 1.5), "die": (-1, 7)}[law]
    centre = min(max(centre, low), high)
    a, b = centre - width / 2, centre + width / 2
    atoms = [k for k in {"relu": [0], "die": range(1, 7)}.get(law, []) if a < k <= b]
    mass = {
        "gaussian": lambda: norm.cdf(b) - norm.cdf(a),
        "relu": lambda: norm.cdf(max(b, 0)) - norm.cdf(max(a, 0)) + len(atoms) / 2,
        "cantor": lambda: cantor(b) - cantor(a),
        "die": lambda: len(atoms) / 6,
    }[law]()
    return {"centre": centre, "width": width, "mass": float(mass), "atoms": len(atoms), "by_length": mass / width,
            "by_count": [mass / len(atoms)] if atoms else [], "by_both": mass / (width + (a < 0 <= b))}  # fmt: skip


PACKAGE = {
    "hero": hero,
    "darts": darts,
    "ruler": ruler,
    "twist": twist,
    "coupling": coupling,
    "autoregressive": autoregressive,
}


def complete(name, state):
    return {key: state.get(key, default(name, key)) for key in package._FIGURES[name].parameters}


# ---------------------------------------------------------------- without a browser


@pytest.mark.parametrize("name", NAMES)
def test_html(name):
    figure = live(name, 'Says "so" & <so>.')
    assert figure.html == live(name, 'Says "so" & <so>.').html
    assert repr(figure) == f"Live({name!r})"
    root = BeautifulSoup(figure._repr_html_(), "html.parser").find(class_="nf-live")
    assert f"nf-live-{name}" in root["class"] and root["aria-label"] == 'Says "so" & <so>.'
    assert root.find(attrs={"aria-live": "polite"}).get_text() == figure.text
    assert not root.find_all(id=True), "several on a page must not collide"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|fetch\(", figure.html)
    # without the script nothing pretends to be a control
    assert not root.select("svg [tabindex], svg [role=slider]")
    pictures = re.findall(r"<svg.*?</svg>", figure.html, re.S)
    for picture in pictures:
        tree = ET.fromstring(picture)
        assert len(list(tree.iter())) >= 4
    assert sum(map(len, pictures)) < 60_000 and len(figure.html) < 90_000
    assert "nan" not in "".join(pictures).lower()


def test_same_bytes_in_another_process():
    code = (
        "import hashlib; from nfcourse.live import *;"
        "print(hashlib.sha256(''.join(live(n, 'x').html for n in NAMES).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NFCOURSE_NO_TYPECHECK": "1"}
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                       env={**environment, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1 and len(runs.pop().strip()) == 64


def test_reached_through_widgets():
    assert nf.widgets.live is live


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("heroes", {}, "heroes"),
        ("hero", {"alt": " "}, "alt"),
        ("twist", {"strength": 1}, "strength"),
        ("twist", {"play": True}, "play"),
        ("hero", {"strength": 1.5}, "strength"),
        ("hero", {"strength": True}, "strength"),
        ("hero", {"strength": math.nan}, "strength"),
        ("hero", {"inflate": 1}, "inflate"),
        ("hero", {"w": [3.0, 3.0]}, "w"),
        ("hero", {"w": 1.0}, "w"),
        ("twist", {"side": 0.0}, "side"),
        ("twist", {"map": "fold"}, "map"),
        ("darts", {"n": 500}, "n"),
        ("darts", {"seed": 10}, "seed"),
        ("darts", {"seed": True}, "seed"),
        ("darts", {"board": [[0, 0], [0.1, 1]]}, "board"),
        ("darts", {"board": [[1, 1], [0, 2]]}, "board"),
        ("darts", {"board": [[-6, 0], [0, 2]]}, "board"),
        ("darts", {"board": 3}, "board"),
        ("darts", {"board": [0, 0, 1, 1]}, "board"),
        ("ruler", {"law": "cauchy"}, "law"),
        ("ruler", {"centre": 8}, "centre"),
        ("ruler", {"width": 0.0}, "width"),
        ("coupling", {"passes": 3}, "passes"),
        ("coupling", {"passes": True}, "passes"),
        ("coupling", {"knots": [[1, 0], [0, 1]]}, "knots"),
        ("coupling", {"knots": [[math.nan, 0], [0, 1]]}, "knots"),
        ("coupling", {"slopes": [0.0, 1.0]}, "slopes"),
        ("autoregressive", {"order": "1"}, "order"),
        ("autoregressive", {"x": [9.0, 0.0]}, "x"),
        ("hero", {"w": "12"}, "w"),
        ("hero", {"w": ["1", "2"]}, "w"),
        ("hero", {"w": [10**400, 0]}, "w"),
        ("hero", {"strength": "1"}, "strength"),
        ("hero", {"strength": torch.ones(1)}, "strength"),
        ("hero", {"play": "yes"}, "play"),
        ("hero", {"play": 1}, "play"),
        ("twist", {"map": ["twist"]}, "map"),
        ("coupling", {"passes": "1"}, "passes"),
        ("coupling", {"passes": 1.5}, "passes"),
        ("coupling", {"passes": np.array([1, 2])}, "passes"),
        ("coupling", {"knots": [["-1.5", "-0.25"], ["1.5", "0.25"]]}, "knots"),
        ("coupling", {"knots": 3}, "knots"),
    ],
)
def test_errors(name, options, word):
    with pytest.raises(ValueError, match="expects.*got") as caught:
        live(name, **{"alt": ALT, **options})
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "scalars", "plain"),
    [
        ("coupling", {"passes": 1.0}, {"passes": 1}),
        ("coupling", {"passes": np.int64(2)}, {"passes": 2}),
        ("coupling", {"passes": torch.tensor(2)}, {"passes": 2}),
        ("coupling", {"slopes": torch.tensor([0.5, 2.0], requires_grad=True)}, {"slopes": [0.5, 2.0]}),
        ("coupling", {"knots": np.array([[-1.0, -0.5], [1, 0.5]])}, {"knots": [[-1.0, -0.5], [1.0, 0.5]]}),
        ("hero", {"strength": np.float32(0.5)}, {"strength": 0.5}),
        ("hero", {"strength": torch.tensor(0.5), "play": np.bool_(True)}, {"strength": 0.5, "play": True}),
        ("hero", {"inflate": np.bool_(True), "w": (1, np.float64(2))}, {"inflate": True, "w": [1.0, 2.0]}),
    ],
)
def test_scalars_of_numpy_and_torch_are_numbers(name, scalars, plain):
    assert live(name, ALT, **scalars).html == live(name, ALT, **plain).html


def test_what_the_orders_lose():
    """E_p log p/q, by Gauss-Hermite in both coordinates; chapter 10 has 0.12 + 0.22 for the second order."""
    node, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / weight.sum()
    x2 = 2 * node[:, None]
    x1 = x2**2 / 4 + node
    x2 = np.broadcast_to(x2, x1.shape)
    variance = orders._first(x1.ravel())[1].reshape(x1.shape)
    model = orders._log_normal(x1, 1.0, math.sqrt(3)) + orders._log_normal(x2, 0.0, np.sqrt(variance))
    loss = float((np.outer(weight, weight) * (orders._log_banana(x1, x2) - model)).sum())
    (none, some), _ = orders._orders()
    assert none == 0
    assert abs(some - loss) < 2e-3 and abs(some - 0.34) < 0.01


def test_darts_are_fair():
    """Over many seeds the estimates spread around the true area as their standard errors say."""
    board = [[-4.6, 0.2], [1.0, 2.8]]
    wide, n = 5.6 * 2.6, 500
    share = area_of_the_arm() / wide
    u = np.stack([thrown._uniform(seed, 2 * n) for seed in range(400)]).reshape(400, n, 2)
    x = torch.from_numpy(np.array(board[0]) + u * np.subtract(*board[::-1]))
    off = (in_ellipse(ARM.unwarp(x)).double().mean(1) - share) / math.sqrt(share * (1 - share) / n)
    assert abs(off.mean()) < 4 / 20 and abs(off.square().mean() - 1) < 4 * math.sqrt(2 / 400)


def test_the_arm_is_measured():
    assert abs(thrown._area() - area_of_the_arm()) < 1e-8
    p = ARM.warp(torch.from_numpy(thrown._ellipse(20_000))).numpy()
    q = np.roll(p, -1, 0)
    assert abs((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / 2 - thrown._area()) < 1e-6
    assert np.abs([p.min(0), p.max(0)] - np.array([[-4.217, 0.558], [0.681, 2.412]])).max() < 1e-3


def test_distribution_functions():
    x = np.linspace(-10, 10, 4001)
    assert np.abs([weighed._normal(v) - norm.cdf(v) for v in x]).max() < 1e-14
    assert np.abs([weighed._cantor(v) - cantor(v) for v in np.linspace(-0.1, 1.1, 3001)]).max() < 1e-9
    for point, value in (
        (1 / 4, 1 / 3),
        (3 / 4, 2 / 3),
        (1 / 2, 1 / 2),
        (0.4, 1 / 2),
        (1 / 10, 1 / 5),
        (3 / 10, 2 / 5),
        (1, 1),
    ):
        assert abs(weighed._cantor(point) - value) < 1e-9


def test_ends_of_a_window():
    """(a, b] holds an atom at b and none at a."""
    assert weighed._weigh("die", 3.5, 1.0)[:2] == (pytest.approx(1 / 6), 1)
    assert weighed._weigh("relu", -0.5, 1.0)[:3] == (0.5, 1, True)
    assert weighed._weigh("relu", 0.5, 1.0)[1:3] == (0, False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (0.15625, "0.1563"), (2.5, "2.500"), (-0.0005, "−0.0005000"), (499.96, "500.0"),
     (1.6e-8, "0.000000016"), (12345.6, "12346")],
)  # fmt: skip
def test_digits_that_count(value, text):
    assert frame.sig(value) == text


# ---------------------------------------------------------------- in the browser


def show(browser, folder, *figures, theme="light", query="", **options):
    """Open a tiny page from disk."""
    body = "".join(f.html for f in figures)
    colours = {"light": ("#ffffff", "#222832"), "dark": ("#14181e", "#ced6dd")}[theme]
    page = folder / "page.html"
    page.write_text(
        f'<!DOCTYPE html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>Test</title></head>'
        f'<body style="background:{colours[0]};color:{colours[1]};font:16px sans-serif;'
        f'max-width:760px;margin:1rem auto">'
        f"<main><h1>Test</h1>{body}</main><div style='height:3000px'></div></body></html>",
        "utf8",
    )
    browsing.view(browser, **options)
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(page.as_uri() + query)
    return browser.find_elements("css selector", ".nf-live")


def numbers(browser, root):
    return browser.execute_script("return arguments[0].nfLive.numbers()", root)


def put(browser, root, state):
    browser.execute_script("arguments[0].nfLive.set(arguments[1])", root, state)


def text(browser, root):
    return browser.execute_script("return arguments[0].querySelector('.nf-live-text').textContent", root)


def centre(browser, element):
    return browser.execute_script(
        """arguments[0].scrollIntoView({block: "center"});
           const r = (arguments[0].querySelector(".hit") ?? arguments[0]).getBoundingClientRect();
           return [r.x + r.width / 2, r.y + r.height / 2];""",
        element,
    )


def mouse(browser, at, by):
    half, end = [(at[0] + part * by[0], at[1] + part * by[1]) for part in (0.5, 1)]
    steps = [("Moved", at), ("Pressed", at), ("Moved", half), ("Moved", end), ("Released", end)]
    for kind, (x, y) in steps:
        event = {"type": f"mouse{kind}", "x": x, "y": y, "button": "left", "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "buttons": int(kind != "Released")})


def touch(browser, at, by):
    for kind, part in (("touchStart", 0), ("touchMove", 0.5), ("touchMove", 1), ("touchEnd", None)):
        points = [] if part is None else [{"x": at[0] + part * by[0], "y": at[1] + part * by[1]}]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def close(got, want, where=""):
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            close(got[key], want[key], f"{where} {key}")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for g, w in zip(got, want, strict=True):
            close(g, w, where)
    else:
        assert abs(got - want) <= 1e-6 * max(1.0, abs(want)), f"{where}: {got} in the page, {want} in the package"


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_packages(name, browser, tmp_path):
    (root,) = show(browser, tmp_path, live(name, ALT))
    for state in STATES[name]:
        state = complete(name, state)
        put(browser, root, state)
        close(numbers(browser, root), PACKAGE[name](**state), f"{name} {state}")
    assert not browsing.complaints(browser)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_script_says_and_draws_what_python_does(name, k, browser, tmp_path):
    """The picture without scripts, and its text, are those that the script makes of the same state."""
    figure = live(name, ALT, **STATES[name][k])
    (root,) = show(browser, tmp_path, figure)
    assert text(browser, root) == figure.text
    drawn = BeautifulSoup(figure.html, "html.parser")
    now = browser.execute_script(
        """return [...arguments[0].querySelectorAll("svg")].flatMap(s => [...s.querySelectorAll("[data-part]")].map(
             e => [s.dataset.plane + " " + e.dataset.part, e.getAttribute("class"),
                   e.getAttribute("d") ?? e.textContent]))""",
        root,
    )
    then = [
        (f"{svg['data-plane']} {e['data-part']}", " ".join(e.get("class", [])), e.get("d", e.get_text()))
        for svg in drawn.find_all("svg")
        for e in svg.select("[data-part]")
    ]
    number = re.compile(r"-?\d+\.?\d*")
    for (part, cls, a), (_, c, b) in zip(now, then, strict=True):
        assert (cls or "").split() == c.split(), part
        if not re.search(r"[A-Za-z]", b):
            assert a == b, part
            continue
        assert re.sub(number, "", a) == re.sub(number, "", b), part
        u, v = (np.array([float(t) for t in number.findall(s)]) for s in (a, b))
        assert len(u) == len(v) and (not len(u) or abs(u - v).max() < 0.11), f"{part}: {abs(u - v).max()}"


FREE = {
    "hero": ["probe"],
    "darts": ["low", "high"],
    "twist": ["cell"],
    "coupling": ["z", "x", "knot0", "knot1"],
    "autoregressive": ["z", "x"],
}
BOUND = {"hero": ["rim"], "ruler": ["centre"], "coupling": ["slope0", "slope1"]}


@pytest.mark.parametrize("how", ["mouse", "touch"])
@pytest.mark.parametrize("name", NAMES)
def test_drag(name, how, browser, tmp_path):
    (root,) = show(browser, tmp_path, live(name, ALT))
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": how == "touch"})
    try:
        for handle in FREE.get(name, []) + BOUND.get(name, []):
            element = root.find_element("css selector", f'[data-handle="{handle}"]')
            at, before, said = centre(browser, element), numbers(browser, root), text(browser, root)
            scrolled = browser.execute_script("return scrollY")
            by = {"rim": (3, -20)}.get(handle, (-9, 7) if handle[:-1] in ("slope", "knot") else (14, 17))
            (mouse if how == "mouse" else touch)(browser, at, by)
            assert numbers(browser, root) != before and text(browser, root) != said, handle
            assert browser.execute_script("return scrollY") == scrolled, "the page scrolled with the handle"
            after, moved = centre(browser, element), numbers(browser, root)
            if how == "mouse":  # once let go, it stays
                event = {"type": "mouseMoved", "x": at[0] - 40, "y": at[1] - 40, "buttons": 0}
                browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
                assert numbers(browser, root) == moved, f"{handle} follows the mouse after its release"
            if handle in FREE.get(name, []):
                assert abs(after[0] - at[0] - by[0]) < 1.5 and abs(after[1] - at[1] - by[1]) < 1.5, handle
            if how == "touch":  # the page can be scrolled from anywhere else in the picture
                actions = browser.execute_script(
                    "const e = arguments[0]; return [e, e.closest('svg')].map(x => getComputedStyle(x).touchAction)",
                    element,
                )
                assert actions == ["none", "auto"]
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert not browsing.complaints(browser)


@pytest.mark.parametrize("name", NAMES)
def test_keyboard(name, browser, tmp_path):
    (root,) = show(browser, tmp_path, live(name, ALT))
    for handle in FREE.get(name, []) + BOUND.get(name, []):
        element = root.find_element("css selector", f'[data-handle="{handle}"]')
        assert element.get_attribute("role") == "slider" and element.get_attribute("tabindex") == "0"
        browser.execute_script("arguments[0].focus({focusVisible: true})", element)
        for key in ("ARROW_LEFT", "ARROW_UP"):
            before, spoken = numbers(browser, root), element.get_attribute("aria-valuetext")
            browser.switch_to.active_element.send_keys(
                getattr(__import__("selenium.webdriver", fromlist=["Keys"]).Keys, key)
            )
            if (handle, key) != ("rim", "ARROW_UP"):
                assert numbers(browser, root) != before, (handle, key)
                assert element.get_attribute("aria-valuetext") != spoken, (handle, key)
        ring = browser.execute_script("return getComputedStyle(arguments[0].querySelector('.focus')).stroke", element)
        assert ring != "none", f"no focus to be seen at {handle}"
    for control in root.find_elements("css selector", "input[type=range]"):
        before = numbers(browser, root)
        browsing.keys(control, "ARROW_LEFT")
        assert numbers(browser, root) != before
        assert control.get_attribute("aria-valuetext") == control.find_element("xpath", "..//output").text
        for end in ("END", "HOME"):  # what the slider sets is a state of the package, and reads the same there
            browsing.keys(control, end)
            found = numbers(browser, root)
            state = {k: v for k, v in found.items() if k in package._FIGURES[name].parameters}
            live(name, ALT, **{k: v for k, v in state.items() if not isinstance(v, list)})
    for control in root.find_elements("css selector", "input[type=radio]"):
        control.click()
        key = control.get_attribute("data-key")
        said = text(browser, root)
        put(browser, root, {key: type(default(name, key))(control.get_attribute("value"))})
        assert text(browser, root) == said, f"the button {key} = {control.get_attribute('value')} does something else"
    root.find_element("css selector", '[data-do="reset"]').click()
    assert text(browser, root) == live(name, ALT).text


@pytest.mark.parametrize("name", FREE)
def test_arrows_go_where_they_point(name, browser, tmp_path):
    from selenium.webdriver import Keys

    (root,) = show(browser, tmp_path, live(name, ALT))
    for handle in FREE[name]:
        element = root.find_element("css selector", f'[data-handle="{handle}"]')
        for key, axis, sign in (
            ("ARROW_LEFT", 0, -1),
            ("ARROW_RIGHT", 0, 1),
            ("ARROW_UP", 1, -1),
            ("ARROW_DOWN", 1, 1),
        ):
            moved = []
            for shift in ((), (Keys.SHIFT,)):
                put(browser, root, complete(name, {}))
                at = centre(browser, element)
                browser.execute_script("arguments[0].focus()", element)
                browser.switch_to.active_element.send_keys(*shift, getattr(Keys, key))
                now = centre(browser, element)
                moved.append(now[axis] - at[axis])
            assert sign * moved[0] > 0, f"{handle}: {key} moves it by {moved[0]} pixels"
            assert abs(moved[1]) > 2.5 * abs(moved[0]), f"{handle}: with shift {key} moves it by {moved}"


def test_of_handles_that_cover_each_other_the_nearest_is_meant(browser, tmp_path):
    (root,) = show(browser, tmp_path, live("darts", ALT, board=[[-1.5, 2.0], [-1.25, 2.25]]))
    low = root.find_element("css selector", '[data-handle="low"]')
    before = numbers(browser, root)["board"] if "board" in numbers(browser, root) else text(browser, root)
    mouse(browser, centre(browser, low), (-60, 30))
    after = numbers(browser, root)["board"] if "board" in numbers(browser, root) else text(browser, root)
    assert after != before, "the smallest board is stuck"


def test_a_window_that_ends_at_an_atom_counts_as_it_says(browser, tmp_path):
    """2.05 - 0.1 / 2 is a little below 2 in floating point; the window (2, 2.1] holds no atom of the die."""
    found = live("ruler", ALT, law="die", centre=2.05, width=0.1)
    assert "(2.0000, 2.1000]" in found.text and "atoms 0" in found.text, found.text
    (root,) = show(browser, tmp_path, found)
    assert text(browser, root) == found.text and numbers(browser, root)["atoms"] == 0


def test_limits(browser, tmp_path):
    """However far one drags, the state stays one that the package accepts."""
    for name in NAMES:
        (root,) = show(browser, tmp_path, live(name, ALT))
        for handle in FREE.get(name, []) + BOUND.get(name, []):
            for by in ((900, -700), (-900, 700), (-900, -700), (900, 700)):
                put(browser, root, complete(name, {}))
                element = root.find_element("css selector", f'[data-handle="{handle}"]')
                mouse(browser, centre(browser, element), by)
                found = numbers(browser, root)
                flat = np.hstack([np.ravel(v) for v in found.values()]).tolist()
                assert all(isinstance(v, int | float) and math.isfinite(v) for v in flat), (name, handle, by)
                for key in found.keys() & package._FIGURES[name].parameters.keys():
                    live(name, ALT, **{key: found[key]})


@pytest.mark.parametrize("name", NAMES)
def test_two_copies_are_independent(name, browser, tmp_path):
    one, two = show(browser, tmp_path, live(name, ALT), live(name, ALT))
    assert text(browser, one) == text(browser, two)
    checked = "return [...arguments[0].querySelectorAll('input:checked')].length"
    count = browser.execute_script(checked, two)
    still = numbers(browser, two)
    put(browser, one, complete(name, STATES[name][-1]))
    for control in one.find_elements("css selector", "input[type=radio]:not(:checked), input[type=checkbox]"):
        control.click()
    assert numbers(browser, one) != still
    assert numbers(browser, two) == still and browser.execute_script(checked, two) == count
    assert not browsing.complaints(browser)


def test_all_on_one_page(browser, tmp_path):
    roots = show(browser, tmp_path, *(live(name, ALT) for name in (*NAMES, "twist")))
    assert len(roots) == len(NAMES) + 1 and all(numbers(browser, r) for r in roots)
    assert not browsing.complaints(browser)


@pytest.mark.parametrize("name", NAMES)
def test_without_scripts(name, browser, tmp_path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        (root,) = show(browser, tmp_path, live(name, ALT))
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert root.get_attribute("data-ready") is None
    pictures = root.find_elements("css selector", "svg")
    assert len(pictures) >= 2
    assert all(p.is_displayed() and p.size["height"] > 60 for p in pictures)
    assert not any(c.is_displayed() for c in root.find_elements("css selector", ".nf-live-controls, .nf-live-hint"))
    assert root.find_element("css selector", ".nf-live-text").text == live(name, ALT).text


@pytest.mark.parametrize("name", NAMES)
def test_in_print(name, browser, tmp_path):
    (root,) = show(browser, tmp_path, live(name, ALT))
    assert root.find_element("css selector", ".nf-live-controls").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert all(p.is_displayed() for p in root.find_elements("css selector", "svg"))
        assert root.find_element("css selector", ".nf-live-text").is_displayed()
        assert not root.find_element("css selector", ".nf-live-controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


LUMINANCE = """
const rgb = (c) => { const k = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  k.fillStyle = c; k.fillRect(0, 0, 1, 1); return [...k.getImageData(0, 0, 1, 1).data].slice(0, 3); };
const light = (c) => { const [r, g, b] = rgb(c).map(v =>
  (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const ground = (e) => { const c = getComputedStyle(e).backgroundColor;
  return c !== "rgba(0, 0, 0, 0)" || !e.parentElement ? c : ground(e.parentElement); };
const of = (s, property) => [...arguments[0].querySelectorAll(s)].filter(e => e.getBoundingClientRect().width)
  .map(e => [e.textContent.slice(0, 20) + s, contrast(getComputedStyle(e)[property], ground(e.closest("svg") ?? e))]);
return {text: [...of("svg text", "fill"), ...of("p, label, legend, output, button", "color")],
        lines: [...of(".curve, .guide:not(.off), .dots", "stroke"), ...of(".knob", "stroke")]};
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_legible(theme, browser, tmp_path):
    for name in NAMES:
        (root,) = show(browser, tmp_path, live(name, ALT), theme=theme, scheme=theme)
        found = browser.execute_script(LUMINANCE, root)
        assert found["text"] and found["lines"]
        assert not [x for x in found["text"] if x[1] < 4.5], name
        # shapes and positions say the same as the colours of dots; curves and handles must be seen
        assert not [x for x in found["lines"] if x[1] < 2.0], name
        assert browsing.accessibility(browser, theme) == []


def test_letters_on_a_phone(browser, tmp_path):
    for name in NAMES:
        (root,) = show(browser, tmp_path, live(name, ALT), width=390)
        heights = browser.execute_script(
            """return [...arguments[0].querySelectorAll("svg text")].filter(t => t.getBoundingClientRect().width)
                 .map(t => [t.textContent, parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a]);""",
            root,
        )
        assert heights and all(h >= 10 for _, h in heights), f"{name}: {heights}"
        wide = browser.execute_script(
            """return [...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > 390.5)
                 .map(e => e.outerHTML.slice(0, 99))"""
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, (name, wide)


def motion(browser, value):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": value}]}
    )


def test_hero_plays_once_and_not_for_those_who_ask_for_calm(browser, tmp_path):
    figure = live("hero", ALT, play=True)
    (root,) = show(browser, tmp_path, figure)
    first = numbers(browser, root)["strength"]
    assert first < 0.9, "it does not move"
    browsing.wait(lambda: numbers(browser, root)["strength"] == 1)
    assert text(browser, root) == figure.text
    assert root.find_element("css selector", "[data-do=play]").text == "Play"
    browser.execute_script("document.querySelector('[data-do=play]').click()")
    assert numbers(browser, root)["strength"] < 0.9
    # print shows the whole way, also from the middle of it
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert numbers(browser, root)["strength"] == 1
    try:
        motion(browser, "reduce")
        browser.get(browser.current_url)
        root = browser.find_element("css selector", ".nf-live")
        assert numbers(browser, root)["strength"] == 1
    finally:
        motion(browser, "")


@pytest.mark.parametrize("page", ["book/start"])
def test_the_start_page_moves(page, browser):
    browsing.visit(browser, page)
    figure = browser.find_element("css selector", "figure#fig-hero")
    assert re.search(r"Fig\. \d+", figure.find_element("css selector", "figcaption").text)
    root = figure.find_element("css selector", ".nf-live-hero")
    assert len(root.get_attribute("aria-label")) > 80
    browsing.wait(lambda: numbers(browser, root)["strength"] == 1)
    assert not browsing.complaints(browser)
