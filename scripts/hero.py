"""Draw the picture of the start page and the README: the star, half twisted, and the pinwheel."""

from pathlib import Path

import matplotlib.pyplot as plt

from nfcourse import data, plot

plot.style()
pinwheel = data.pinwheel()
x, k = pinwheel.sample(1500, seed=0, labels=True)
star = pinwheel.untwist(x)
fig, axes = plt.subplots(1, 3, figsize=(9, 3))
for ax, strength in zip(axes, (0.0, 0.5, 1.0), strict=True):
    partly = data.Pinwheel(twist=strength * pinwheel.twist)
    plot.scatter(partly.twist_map(star), labels=k, ax=ax, box=(-4, 4))
    ax.axis("off")
target = Path(__file__).parents[1] / "book" / "_static" / "hero.webp"
fig.savefig(target, dpi=200)
