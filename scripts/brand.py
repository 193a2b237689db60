"""Draw the book's sign (favicon.svg) and its card for links in other places (card.png)."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nfcourse import data, plot

STATIC = Path(__file__).parents[1] / "book" / "_static"
TITLE, SUBTITLE = "Normalizing Flows", "from Measures to Mixtures"


def favicon():
    """Write five twisted arms, a dozen points each, on a dark square."""
    colours = [plot.COLORS[k] for k in ("base", "data", "model", "accent", "wrong")]
    dots = []
    for arm, colour in enumerate(("#56b4e9", *colours[1:])):
        for k in range(7):
            radius = 5 + 3.6 * k
            angle = 2 * np.pi * arm / 5 + 0.16 * k
            x, y = 32 + radius * np.cos(angle), 32 + radius * np.sin(angle)
            dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.8 + 0.42 * k:.1f}" fill="{colour}"/>')
    square = '<rect width="64" height="64" rx="12" fill="#16202b"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{square}{"".join(dots)}</svg>\n'
    (STATIC / "favicon.svg").write_text(svg)


def card():
    """Write 1200 by 630 pixels: the title beside the star and the pinwheel that a twist makes of it."""
    plot.style()
    pinwheel = data.pinwheel()
    x, k = pinwheel.sample(1500, seed=0, labels=True)
    fig = plt.figure(figsize=(12, 6.3), facecolor="white")
    for left, points in ((0.03, pinwheel.untwist(x)), (0.5, x)):
        ax = fig.add_axes((left, 0.02, 0.47, 0.66))
        plot.scatter(points, labels=k, ax=ax, box=(-4, 4))
        ax.axis("off")
    fig.text(0.06, 0.84, TITLE, fontsize=44, fontweight="bold", color="#222222")
    fig.text(0.06, 0.74, SUBTITLE, fontsize=26, color="#444444")
    fig.savefig(
        STATIC / "card.png", dpi=100, bbox_inches=None, pil_kwargs={"optimize": True}, metadata={"Software": None}
    )


if __name__ == "__main__":
    favicon()
    card()
