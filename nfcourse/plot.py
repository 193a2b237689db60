"""Pictures in one style: densities with their integrals, samples, warped grids, images, training curves.

Every function draws into the :class:`~matplotlib.axes.Axes` that it is given, or into a new figure, and returns the
axes. Nothing is printed. Functions are called without gradients. A model, or a method of one (``flow.log_prob``), is
put into evaluation mode for the call, so that no picture changes it, and gets points of its own dtype and device.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from torch import Tensor, nn

__all__ = [
    "COLORS",
    "CYCLE",
    "DENSITY",
    "colorbar",
    "density",
    "hist_with_density",
    "history",
    "images",
    "line",
    "scatter",
    "style",
    "svg",
    "warped_grid",
]

#: Colours by role, from the palette of Okabe and Ito, which colour-blind readers can tell apart.
COLORS = {
    "base": "#0072B2",
    "data": "#D55E00",
    "model": "#009E73",
    "wrong": "#CC79A7",
    "accent": "#E69F00",
    "muted": "#7F7F7F",
    "ink": "#222222",
}

#: The order of colours for several curves or classes; yellow is left out, because it is too pale on white.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")

#: White for no mass to dark blue: neighbours are at equal distances in CIELAB, and lightness falls all the way.
DENSITY = LinearSegmentedColormap.from_list(
    "nfcourse_density",
    ["#ffffff", "#def4ff", "#bce6fd", "#98d6fa", "#72c4f5", "#49aeeb", "#1a96db"]
    + ["#0d7dc5", "#2365aa", "#2f4f8c", "#313d6d", "#2e2d51", "#262037"],
)
mpl.colormaps.register(DENSITY, force=True)

# Classes differ in shape too: colour alone would not reach every reader.
_MARKERS = ("o", "^", "s", "D", "v", "P", "X")

Box = Sequence[float] | Sequence[Sequence[float]]


# Points, and lines or polygons, above which a layer of an SVG is stored as a picture; its resolution is sharp at twice
# the size of a screen's pixels.
_POINTS, _PATHS, _DPI = 300, 1000, 200


def style() -> None:
    """Set the style of the course's figures; call it in the first cell of a chapter.

    Figures have a white background: a page in dark mode shows them on a light plate. In a notebook they are SVG, as
    :func:`svg` writes it. Sizes are in inches of 96 pixels. The letters are chosen for figures at most 6 wide: a phone
    shows such a figure at 0.62 of its size, and its smallest letters at 8 pixels. Wider figures belong in two rows.
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (5.6, 3.4),
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.w_pad": 0.07,
            "font.size": 11,
            "font.family": "DejaVu Sans",  # shipped with matplotlib: the same letters on every machine
            "mathtext.fontset": "dejavusans",
            "text.color": COLORS["ink"],
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.titlepad": 7,
            "axes.labelsize": 11,
            "axes.labelcolor": COLORS["ink"],
            "axes.edgecolor": "#666666",
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": False,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.7,
            "xtick.color": "#555555",
            "ytick.color": "#555555",
            "xtick.labelcolor": COLORS["ink"],
            "ytick.labelcolor": COLORS["ink"],
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "lines.linewidth": 1.8,
            "lines.solid_capstyle": "round",
            "patch.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "image.cmap": DENSITY.name,
            "svg.hashsalt": "nfcourse",
            "svg.fonttype": "path",  # the same letters on every machine
        }
    )
    _inline()


def _inline() -> None:
    """Let a notebook show figures by :func:`svg`; elsewhere nothing happens."""
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    shell = get_ipython()
    if shell is None or "inline" not in mpl.get_backend():
        return
    set_matplotlib_formats("svg")  # takes the other formats away
    shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, svg)


def _dense(artist) -> bool:
    if isinstance(artist, Line2D):
        return artist.get_linestyle() == "None" and len(artist.get_xdata(orig=False)) > _POINTS
    if isinstance(artist, QuadMesh):
        return True
    return isinstance(artist, Collection) and (len(artist.get_offsets()) > _POINTS or len(artist.get_paths()) > _PATHS)


def svg(figure: Figure | Axes) -> str:
    """Return a figure as the text of an SVG file, the same at each call: no date, letters as paths.

    Heat maps, clouds of more than 300 points and meshes are pictures in it, at 200 dots per inch.

    Args:
        figure: The figure, or one of its axes; its dense layers are marked as such.
    """
    figure = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    for artist in figure.findobj(_dense):
        artist.set_rasterized(True)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "nfcourse", "svg.fonttype": "path"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", dpi=_DPI, bbox_inches="tight", pad_inches=0.04, metadata=metadata)
    return buffer.getvalue()


def _axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    return plt.subplots(figsize=size)[1] if ax is None else ax


def _array(value) -> np.ndarray:
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)


def _points(x, name: str) -> np.ndarray:
    x = _array(x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"{name} expects points of shape (n, 2), got an array of shape {x.shape}.")
    return x


def _box(box: Box, dim: int = 2) -> np.ndarray:
    """Return the box as (dim, 2): one (low, high) for all axes, or one for each."""
    sides = np.asarray(_array(box), dtype=float)
    if sides.shape == (2,):
        sides = np.tile(sides, (dim, 1))
    if sides.shape != (dim, 2) or not np.isfinite(sides).all() or not (sides[:, 0] < sides[:, 1]).all():
        raise ValueError(f"box expects (low, high) with low < high, or {dim} such pairs, got {box!r}.")
    return sides


def _color(color: str) -> str:
    return COLORS.get(color, color)


@contextlib.contextmanager
def _looking(f: Callable) -> Iterator[dict]:
    """Evaluate without leaving a trace: no gradients, evaluation mode; yield the dtype and device ``f`` expects."""
    owner = getattr(f, "__self__", f)
    modules = [m for m in owner.modules() if m.training] if isinstance(owner, nn.Module) else []
    like = next(owner.parameters(), None) if isinstance(owner, nn.Module) else None
    kind = {} if like is None else {"dtype": like.dtype, "device": like.device}
    for module in modules:
        module.training = False
    try:
        with torch.no_grad():
            yield {"dtype": torch.get_default_dtype(), "device": "cpu", **kind}
    finally:
        for module in modules:
            module.training = True


def _corner(ax: Axes, text: str) -> None:
    plate = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    ax.text(0.97, 0.03, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=10, bbox=plate, zorder=5)


def density(
    log_prob: Callable[[Tensor], Tensor],
    box: Box = (-4, 4),
    n: int = 200,
    ax: Axes | None = None,
    title: str | None = None,
    *,
    integral: bool = True,
    cmap: str | Colormap = DENSITY,
    vmax: float | None = None,
    colorbar: bool = False,
) -> Axes:
    r"""Draw a density in the plane as a heat map, with its integral over the box in the corner.

    The density :math:`p = \exp(\texttt{log\_prob})` is evaluated at the midpoints of ``n * n`` equal cells, and the
    integral is the midpoint sum over those cells: a model whose mass lies in the box shows 1.

    Args:
        log_prob: Log-density: a tensor ``(m, 2)`` to a tensor ``(m,)``.
        box: ``(low, high)`` for both axes, or one such pair for each.
        n: Cells along each axis.
        ax: Where to draw; a new figure if absent.
        title: Title.
        integral: Whether to state the integral.
        cmap: Colour map; the default is perceptually uniform, light where there is no mass.
        vmax: Density of the darkest colour, for several pictures on one scale; the largest value if absent.
        colorbar: Whether to add a colour bar. Where numbers matter, a picture has one; pictures side by side with one
            ``vmax`` share one (:func:`colorbar`).

    Returns:
        The axes.

    Raises:
        ValueError: If ``box`` is no box, or ``log_prob`` returns another shape or NaN.
    """
    (left, right), (bottom, top) = sides = _box(box)
    if n < 1:
        raise ValueError(f"n expects at least one cell along each axis, got {n}.")
    width, height = (sides[:, 1] - sides[:, 0]) / n
    x, y = left + width * (np.arange(n) + 0.5), bottom + height * (np.arange(n) + 0.5)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    with _looking(log_prob) as kind:
        log_p = _array(log_prob(torch.as_tensor(grid, **kind))).astype(float)
    if log_p.shape != (n * n,):
        raise ValueError(f"log_prob expects to return shape ({n * n},) for {n * n} points, got {log_p.shape}.")
    if np.isnan(log_p).any():
        raise ValueError(f"log_prob returned NaN, first at the point {grid[np.isnan(log_p)][0]}.")
    p = np.exp(log_p).reshape(n, n)
    ax = _axes(ax, (5.0, 4.0) if colorbar else (4.0, 4.0))
    ax.imshow(
        p,
        extent=(left, right, bottom, top),
        origin="lower",
        cmap=cmap,
        vmin=0,
        vmax=vmax,
        aspect="equal",
        interpolation="bilinear",
    )
    if integral:
        _corner(ax, f"∫ = {p.sum() * width * height:.3f}")
    if title is not None:
        ax.set_title(title)
    if colorbar:
        _bar(ax)
    return ax


def _one_scale(a: AxesImage, b: AxesImage) -> bool:
    """Whether equal values have equal colours in two pictures, but for rounding."""
    low, high = a.get_clim()
    near = {"rtol": 0, "atol": 1e-9}
    width = (high - low) or abs(high) or 1.0
    along = np.linspace(low, high, 9)
    return (
        a.cmap == b.cmap
        and np.allclose(np.subtract(a.get_clim(), b.get_clim()) / width, 0, **near)
        and np.ma.allclose(a.norm(along), b.norm(along), **near)
    )


def colorbar(axes: Axes | Sequence[Axes], label: str = "density (per unit area)") -> Colorbar:
    """Add one colour bar, with its unit, to one heat map or to several on one scale.

    Args:
        axes: The axes of the heat maps, of one figure: one, or a list or an array of them.
        label: What the colours mean, with its unit.

    Returns:
        The colour bar.

    Raises:
        ValueError: If one of the axes has no heat map, or their scales differ: one bar would be wrong for some.
    """
    axes = [axes] if isinstance(axes, Axes) else list(np.asarray(axes, dtype=object).flat)
    if not axes or not all(isinstance(ax, Axes) and ax.images for ax in axes):
        raise ValueError("colorbar expects axes that each show a heat map; one of them has none.")
    first, *others = (ax.images[-1] for ax in axes)
    if not all(_one_scale(first, other) for other in others):
        pictures = (first, *others)
        ranges = ["{:g} to {:g}".format(*p.get_clim()) for p in pictures]
        looks = [f"{p.cmap.name}, {type(p.norm).__name__}" for p in pictures]
        text = "; ".join(", ".join(sorted(set(kind))) for kind in (ranges, looks))
        raise ValueError(f"colorbar expects pictures on one scale, got {text}; give density the same vmax and cmap.")
    bar = axes[0].get_figure().colorbar(axes[0].images[-1], ax=axes, label=label, fraction=0.05, pad=0.03, aspect=24)
    bar.outline.set_visible(False)
    return bar


_bar = colorbar  # density's argument has the same name


def scatter(
    x,
    labels=None,
    ax: Axes | None = None,
    box: Box | None = None,
    *,
    color: str = "data",
    size: float | None = None,
    title: str | None = None,
    legend: bool = False,
    alpha: float | None = None,
) -> Axes:
    """Draw points of the plane, in one colour and shape per label.

    Args:
        x: Points, ``(n, 2)``.
        labels: One label per point.
        ax: Where to draw; a new figure if absent.
        box: ``(low, high)`` for both axes, or one pair for each; fitted to the points if absent.
        color: Colour without labels: a role of :data:`COLORS` or any colour of matplotlib.
        size: Area of a marker in square points; chosen by the number of points if absent.
        title: Title.
        legend: Whether to name the labels.
        alpha: Opacity; chosen by the number of points if absent.

    Returns:
        The axes.

    Raises:
        ValueError: If ``x`` is not ``(n, 2)``, or ``labels`` has another length.
    """
    x = _points(x, "scatter")
    dense = min(1.0, max(0.0, math.log10(max(len(x), 1)) - 2) / 2)  # 0 for 100 points, 1 for 10,000
    size = 16 - 12 * dense if size is None else size
    alpha = 0.9 - 0.4 * dense if alpha is None else alpha
    ax = _axes(ax, (4.0, 4.0))
    look = {"s": size, "alpha": alpha, "linewidths": 0}
    if labels is None:
        ax.scatter(*x.T, color=_color(color), **look)
    else:
        labels = _array(labels)
        if labels.shape != (len(x),):
            raise ValueError(f"labels expects one label for each of {len(x)} points, got shape {labels.shape}.")
        for k, value in enumerate(np.unique(labels)):
            marker = _MARKERS[k % len(_MARKERS)]
            ax.scatter(*x[labels == value].T, color=CYCLE[k % len(CYCLE)], marker=marker, label=str(value), **look)
        if legend:
            for handle in ax.legend(markerscale=1.5, loc="upper right").legend_handles:
                handle.set_alpha(1)
    if box is not None:
        sides = _box(box)
        ax.set(xlim=sides[0], ylim=sides[1])
    ax.set_aspect("equal")
    if title is not None:
        ax.set_title(title)
    return ax


def warped_grid(
    f: Callable,
    box: Box = (-3, 3),
    ax: Axes | None = None,
    lines: int = 17,
    *,
    n: int = 241,
    title: str | None = None,
    color: tuple[str, str] = ("base", "data"),
) -> Axes:
    """Draw the image of a coordinate grid under a map of the plane.

    Lines along the first coordinate have one colour, lines along the second the other; the middle lines are
    thicker. A map that is no bijection shows: its lines cross or fold.

    Args:
        f: A bijection, of which ``forward`` is drawn (``Inverse(f)`` draws the inverse), or a plain map of tensors
            ``(m, 2)``; a second returned value, the log-determinant, is left aside.
        box: The part of the domain: ``(low, high)`` for both axes, or one pair for each.
        ax: Where to draw; a new figure if absent.
        lines: Lines in each direction, at least 2; an odd number has a middle line.
        n: Points along a line.
        title: Title.
        color: Colours of the lines along the first and along the second coordinate.

    Returns:
        The axes.

    Raises:
        ValueError: If ``box`` is no box, ``lines`` or ``n`` is below 2, or ``f`` returns another shape.
    """
    sides = _box(box)
    if lines < 2 or n < 2:
        raise ValueError(f"warped_grid expects at least 2 lines and 2 points along each, got lines={lines}, n={n}.")
    ax = _axes(ax, (4.0, 4.0))
    for along in (0, 1):
        run = np.linspace(*sides[along], n)
        for k, level in enumerate(np.linspace(*sides[1 - along], lines)):
            z = np.empty((n, 2))
            z[:, along], z[:, 1 - along] = run, level
            with _looking(f) as kind:
                value = f(torch.as_tensor(z, **kind))
            x = _points(value[0] if isinstance(value, tuple) else value, "warped_grid, from the map,")
            if len(x) != n:
                raise ValueError(f"warped_grid expects the map to return {n} points for {n} points, got {len(x)}.")
            middle = 2 * k == lines - 1
            # NaN breaks a line; an infinity would draw one across the picture
            x = np.where(np.isfinite(x), x, np.nan)
            ax.plot(*x.T, color=_color(color[along]), linewidth=1.8 if middle else 0.8, alpha=1 if middle else 0.75)
    ax.set_aspect("equal")
    if title is not None:
        ax.set_title(title)
    return ax


def _pictures(x) -> np.ndarray:
    """Return images as (n, height, width) or (n, height, width, 3)."""
    x = _array(x)
    if x.ndim == 2:
        side = math.isqrt(x.shape[1])
        if side * side != x.shape[1]:
            raise ValueError(f"images expects flattened images to be square, got {x.shape[1]} pixels each.")
        x = x.reshape(len(x), side, side)
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3):
        x = np.moveaxis(x, 1, -1)
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] == 3)) or x.size == 0:
        raise ValueError(
            "images expects (n, pixels), (n, height, width), (n, channels, height, width) or "
            f"(n, height, width, channels) with 1 or 3 channels and n > 0, got shape {x.shape}."
        )
    return x.astype(float)


def images(
    x,
    rows: int | None = None,
    ax: Axes | None = None,
    *,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "gray_r",
    pad: int = 1,
) -> Axes:
    """Draw images side by side, row by row, on one scale of grey.

    Args:
        x: Images ``(n, height, width)``, flattened square ones ``(n, pixels)``, or with 1 or 3 channels.
        rows: Number of rows; close to a third of the number of columns if absent.
        ax: Where to draw; a new figure if absent.
        title: Title.
        vmin: Value of white; the smallest in ``x`` if absent.
        vmax: Value of black; the largest in ``x`` if absent.
        cmap: Colour map of images with one channel.
        pad: Pixels between images.

    Returns:
        The axes.

    Raises:
        ValueError: If ``x`` has another shape or ``rows`` is not positive.
    """
    x = _pictures(x)
    count, height, width = x.shape[:3]
    rows = max(1, round(math.sqrt(count / 3))) if rows is None else rows
    if rows < 1:
        raise ValueError(f"rows expects a positive number, got {rows}.")
    columns = -(-count // rows)
    low = x.min() if vmin is None else vmin
    high = x.max() if vmax is None else vmax
    x = np.clip((x - low) / (high - low if high > low else 1), 0, 1)
    sheet = np.full((rows * (height + pad) - pad, columns * (width + pad) - pad, *x.shape[3:]), np.nan)
    for k, picture in enumerate(x):
        top, left = (k // columns) * (height + pad), (k % columns) * (width + pad)
        sheet[top : top + height, left : left + width] = picture
    if sheet.ndim == 3:
        sheet = np.nan_to_num(sheet, nan=1.0)
    ax = _axes(ax, (6.0, max(0.8, 6.0 * sheet.shape[0] / sheet.shape[1])))
    ax.imshow(sheet, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title)
    return ax


def line(
    x, y, ax: Axes | None = None, *, label: str | None = None, color: str = "model", fill: bool = False, **options
) -> Axes:
    """Draw a curve, by its points or as the graph of a function.

    Args:
        x: Where: points ``(n,)``; or ``(low, high)`` when ``y`` is a function, drawn at 401 points between them.
        y: Values ``(n,)``, or a function of a tensor ``(n,)`` that returns them.
        ax: Where to draw; a new figure if absent.
        label: Name in the legend, which is drawn when there is a name.
        color: A role of :data:`COLORS` or any colour of matplotlib.
        fill: Whether to shade the area under the curve.
        **options: Passed to :meth:`matplotlib.axes.Axes.plot`.

    Returns:
        The axes.

    Raises:
        ValueError: If ``x`` and ``y`` differ in shape.
    """
    x = _array(x).astype(float)
    if callable(y):
        x = np.linspace(*x, 401) if x.shape == (2,) else x
        with _looking(y) as kind:
            y = y(torch.as_tensor(x, **kind))
    y = _array(y)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"line expects x and y of one shape (n,), got {x.shape} and {y.shape}.")
    ax = _axes(ax)
    ax.plot(x, y, color=_color(color), label=label, **options)
    if fill:
        ax.fill_between(x, y, color=_color(color), alpha=0.18, linewidth=0)
    if label is not None:
        ax.legend()
    return ax


def hist_with_density(
    samples,
    density: Callable[[Tensor], Tensor] | None = None,
    ax: Axes | None = None,
    *,
    box: Sequence[float] | None = None,
    bins: int = 60,
    n: int = 2000,
    labels: tuple[str, str] = ("samples", "density"),
    colors: tuple[str, str] = ("data", "model"),
    title: str | None = None,
) -> Axes:
    r"""Draw the histogram of numbers and a density over it, with the integral of each over the box in the legend.

    A bar's height is its count, divided by the number of **all** samples and the bar's width: so the histogram's
    integral is the share of samples in the box, and comparable with the density's.

    Args:
        samples: Numbers, ``(n,)`` or ``(n, 1)``.
        density: The density :math:`p` (not its logarithm), a tensor ``(m,)`` to a tensor ``(m,)``.
        ax: Where to draw; a new figure if absent.
        box: ``(low, high)``; the range of the samples if absent.
        bins: Number of bars.
        n: Cells of the midpoint rule for the density's integral.
        labels: Names of samples and density in the legend.
        colors: Their colours, each a role of :data:`COLORS` or any colour of matplotlib.
        title: Title.

    Returns:
        The axes.

    Raises:
        ValueError: If there are no samples, they are not one-dimensional, or the density returns another shape.
    """
    samples = _array(samples).astype(float)
    if samples.ndim == 2 and samples.shape[1] == 1:
        samples = samples[:, 0]
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"samples expects finite numbers of shape (n,) with n > 0, got shape {samples.shape}.")
    low, high = _box((samples.min(), samples.max()) if box is None else box, dim=1)[0]
    counts, edges = np.histogram(samples, bins=bins, range=(low, high))
    width = (high - low) / bins
    ax = _axes(ax)
    ax.bar(
        edges[:-1],
        counts / (samples.size * width),
        width,
        align="edge",
        color=_color(colors[0]),
        alpha=0.35,
        linewidth=0,
        label=f"{labels[0]}, ∫ = {counts.sum() / samples.size:.3f}",
    )
    if density is not None:
        x = low + (high - low) * (np.arange(n) + 0.5) / n
        with _looking(density) as kind:
            p = _array(density(torch.as_tensor(x, **kind))).astype(float)
        if p.shape != (n,):
            raise ValueError(f"density expects to return shape ({n},) for {n} points, got {p.shape}.")
        ax.plot(x, p, color=_color(colors[1]), label=f"{labels[1]}, ∫ = {p.sum() * (high - low) / n:.3f}")
    ax.set(xlim=(low, high), ylim=(0, 1.25 * max(ax.dataLim.y1, 1e-12)))  # room for the legend above the bars
    ax.legend(loc="upper right", ncols=2)
    if title is not None:
        ax.set_title(title)
    return ax


def history(h, ax: Axes | None = None, *, label: str = "", color: str = "model", window: int | None = None) -> Axes:
    """Draw a training run: each batch's loss, their running mean, the validation losses and the best of them.

    Args:
        h: A :class:`~nfcourse.train.History`.
        ax: Where to draw; a new figure if absent.
        label: Name of the run in the legend.
        color: A role of :data:`COLORS` or any colour of matplotlib.
        window: Steps in the running mean; a fiftieth of the run if absent.

    Returns:
        The axes.

    Raises:
        ValueError: If the history is empty or ``window`` is not positive.
    """
    steps, loss = np.asarray(h.steps), np.asarray(h.loss, dtype=float)
    if steps.size == 0:
        raise ValueError("history expects a run of at least one step, got an empty history.")
    window = max(1, steps.size // 50) if window is None else window
    if window < 1:
        raise ValueError(f"window expects a positive number of steps, got {window}.")
    window = min(window, steps.size)
    name = f"{label}: " if label else ""
    ax, color = _axes(ax), _color(color)
    ax.plot(steps, loss, color=color, linewidth=0.6, alpha=0.35)
    mean = np.convolve(loss, np.ones(window) / window, mode="valid")
    ax.plot(steps[window - 1 :], mean, color=color, label=f"{name}training batches, mean of {window}")
    if len(h.validation):
        ax.plot(
            h.validation_steps,
            h.validation,
            color=COLORS["ink"],
            linewidth=1.2,
            linestyle="--",
            label=f"{name}validation",
        )
    if getattr(h, "best_step", None) is not None:
        ax.plot([h.best_step], [h.best], "o", color=COLORS["data"], markersize=5, label=f"{name}best, {h.best:.3f}")
    ax.set(xlabel="step", ylabel="loss (nats)")
    ax.legend()
    return ax
