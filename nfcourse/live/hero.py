"""The hero: a star, twisted into a pinwheel by hand; its density travels along."""

import math

import numpy as np

from ..data import Pinwheel
from .frame import RESET, Figure, Plane, button, double, hundredths, in_disc, num, one_of, pair, short, slider, within
from .star import jacobian, the_star

COLORS = ("base", "data", "model", "wrong", "accent")
RIM, GROWTH, EVERY = 3.5, 0.3, 4


def draw(p: dict) -> tuple:
    """Draw the star on its way, and the log-density along it."""
    star, arms, regions = the_star()

    def torch_map(w, t):
        return Pinwheel(twist=t, inflate=GROWTH * t if p["inflate"] else 0.0).warp(w)

    def map_(w):
        return torch_map(double(w), p["strength"]).numpy()

    def log_det(t):
        return float(np.log(np.linalg.det(jacobian(lambda w: torch_map(w, t), p["w"]))))

    stage = Plane("stage", "|Drag the end of the ray, or the ring", ((-4.35, 4.35), (-4.35, 4.35)), (440, 440))
    stage.classes, stage.frame = "wide", False
    for k, loops in enumerate(regions):
        stage.path(f"region{k}", "region edge", stage.lines([map_(c) for c in loops], True))
    s = np.linspace(0, RIM, 25)[:, None]

    def ray(angle):
        return map_(s * [math.cos(angle), math.sin(angle)])

    turn = np.arange(72) * math.pi / 36
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    rays = stage.lines([ray(math.tau * k / 10) for k in range(1, 10)])
    stage.path("grid", "grid", rays + stage.lines([map_(r * circle) for r in (1, 2, 3, RIM)], True))
    pixels = (stage.ends[1] - stage.ends[0]) / 8.7
    for k, w in enumerate(arms):
        x, d = map_(w), ""
        for a, b in zip(w[::EVERY], x[::EVERY], strict=True):
            r = short((np.hypot(*a) + np.hypot(*b)) / 2 * pixels)
            large = int(p["strength"] * np.hypot(*a) > math.pi)
            d += f"M{stage.at(a)}A{r} {r} 0 {large} 0 {stage.at(b)}"
        stage.path(f"trail{k}", f"trail {COLORS[k]}", d if p["strength"] else "")
    for k, w in enumerate(arms):
        stage.path(f"arm{k}", f"dots {COLORS[k]}", stage.dots(map_(w)))
    stage.path("spoke", "guide ink", stage.line(ray(0)))
    stage.handle("rim", "Twist: the end of the ray", map_([RIM, 0.0]))
    x = map_(p["w"])
    stage.handle("probe", "The ringed point", x, "handle ring", "ink")

    log_star = float(star.log_prob(double(p["w"])))
    det = log_det(p["strength"])
    value = log_star - det
    chart = Plane("chart", "Log-density at the ring, in nats", ((0, 1), (-0.75, 0.25)), (300, 130), (10, 10, 28, 10))
    chart.classes, chart.frame = "wide", False
    left, right, bottom, top = chart.ends
    chart.path("axis", "rule", f"M{left} {bottom}H{right}")
    chart.path("naive", "guide wrong dashed", chart.line([(0, 0), (1, 0)]))
    along = np.linspace(0, 1, 41)
    chart.path("law", "curve base", chart.line([(t, -log_det(t)) for t in along]))
    chart.text("start", left, chart.px((0, 0))[0, 1] - 9, num(log_star))
    off = "" if p["inflate"] else " off"
    chart.text(
        "without", right, chart.px((0, 0))[0, 1] - 9, "without log |det J|", f'class="{off.strip()}" text-anchor="end"'
    )
    chart.circle("now", "mark base", (p["strength"], -det), 5.5)
    now_x, now_y = chart.px((p["strength"], -det))[0]
    chart.text("value", min(right - 16, max(left + 20, now_x)), now_y + 22, num(value), 'text-anchor="middle"')
    chart.text("", left, bottom + 18, "star, 0", 'class="small"')
    chart.text("", (left + right) / 2, bottom + 18, "strength of the twist", 'class="small" text-anchor="middle"')
    chart.text("", right, bottom + 18, "1, pinwheel", 'class="small" text-anchor="end"')

    how = (
        f"|det J| = {num(math.exp(det), 3)} here: the density is divided by it"
        if p["inflate"]
        else "|det J| = 1 everywhere: the density has travelled unchanged"
    )
    text = (
        f"Twist {num(p['strength'])}. The ringed point is at {pair(x)}.\n"
        f"Its log-density: {num(log_star)} in the star, {num(value)} here. {how}."
    )
    inflate = (
        f'<label><input type="checkbox" data-key="inflate"{" checked" * p["inflate"]} autocomplete="off">'
        "<span>inflate too</span></label>"
    )
    controls = (
        slider("strength", "Twist", 0, 1, 0.01, p["strength"], num(p["strength"]))
        + button("play", "Play")
        + inflate
        + RESET
    )
    data = {
        "arms": [hundredths(w) for w in arms], "regions": [[hundredths(c) for c in loops] for loops in regions],
        "rim": RIM, "every": EVERY, "rate": GROWTH, "radius": star.radius, "radial": star.radial,
        "tangential": star.tangential,
    }  # fmt: skip
    return [stage, chart], controls, text, data


FIGURE = Figure(
    draw,
    {"strength": (1.0, within(0, 1)), "inflate": (False, one_of(False, True)), "w": ([0.8, 1.7], in_disc(3.5))},
    "hero",
)
