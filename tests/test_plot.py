"""Pictures tell the truth: integrals, extents, heights and frames are read back from the axes and compared."""

import math
import types

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import PowerNorm, SymLogNorm, to_hex
from torch import nn

import nfcourse as nf
from nfcourse import plot

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    with matplotlib.rc_context():
        plot.style()
        yield
    plt.close("all")


def gauss(x, scale=1.0):
    return -0.5 * (x / scale).square().sum(-1) - math.log(2 * math.pi * scale**2)


def drawn(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba()).copy()


# ---------------------------------------------------------------- style


def test_style_is_white_and_repeats():
    assert to_hex(plt.rcParams["figure.facecolor"]) == "#ffffff" and plt.rcParams["figure.dpi"] == 100
    pictures = [drawn(plot.density(gauss)) for _ in range(2)]
    assert (pictures[0] == pictures[1]).all()


def test_roles_are_different_colours():
    assert {"base", "data", "model", "wrong", "accent", "muted"} <= set(plot.COLORS)
    assert len(set(plot.COLORS.values())) == len(plot.COLORS)


def test_density_colours_darken_all_the_way():
    rgb = plot.DENSITY(np.linspace(0, 1, 256))[:, :3]
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    assert (np.diff(linear @ [0.2126, 0.7152, 0.0722]) < 0).all()
    assert to_hex(plot.DENSITY(0.0)) == "#ffffff"


# ---------------------------------------------------------------- density


@pytest.mark.parametrize(
    ("log_prob", "box", "integral"),
    [
        (gauss, (-6, 6), "1.000"),
        (gauss, (0, 6), "0.250"),
        (gauss, ((-6, 6), (0, 6)), "0.500"),
        (lambda x: gauss(x) + math.log(2.5), (-6, 6), "2.500"),
        (lambda x: torch.where(x[:, 0] > 0, gauss(x), -math.inf), (-6, 6), "0.500"),
    ],
)
def test_density_states_its_integral(log_prob, box, integral):
    ax = plot.density(log_prob, box)
    assert [t.get_text() for t in ax.texts] == [f"∫ = {integral}"]


def test_density_prints_nothing_and_draws_the_right_place(capsys):
    ax = plot.density(lambda x: gauss(x - torch.tensor([2.0, -1.0])), ((-4, 4), (-3, 3)), n=80, title="A title")
    assert capsys.readouterr() == ("", "")
    image = ax.images[0]
    assert tuple(image.get_extent()) == (-4, 4, -3, 3) and image.origin == "lower" and ax.get_aspect() == 1
    row, column = np.unravel_index(image.get_array().argmax(), (80, 80))
    assert abs(-4 + 8 * (column + 0.5) / 80 - 2) < 0.1 and abs(-3 + 6 * (row + 0.5) / 80 + 1) < 0.1
    assert math.isclose(image.get_array().max(), 1 / (2 * math.pi), rel_tol=5e-3)
    assert ax.get_title(loc="left") == "A title"


def test_density_uses_the_given_axes_and_may_leave_the_integral_out():
    _, ax = plt.subplots()
    assert plot.density(gauss, ax=ax, integral=False, vmax=1.0) is ax
    assert not ax.texts and ax.images[0].get_clim() == (0, 1)


def test_density_with_a_colour_bar_says_the_unit():
    ax = plot.density(gauss, colorbar=True, vmax=0.2)
    bar = ax.images[0].colorbar
    assert bar.ax.get_ylabel() == "density (per unit area)" and bar.vmax == 0.2
    assert plot.density(gauss).images[0].colorbar is None


def test_one_colour_bar_for_several_pictures():
    figure, axes = plt.subplots(2, 2)
    for ax in axes.flat:
        plot.density(gauss, ax=ax, vmax=0.3)
    bar = plot.colorbar(axes, "mass (per cell)")
    assert len(figure.axes) == 5 and bar.ax.get_ylabel() == "mass (per cell)"
    drawn(axes[0, 0])
    assert bar.ax.get_window_extent().x0 > max(ax.get_window_extent().x1 for ax in axes.flat)


def test_a_colour_bar_that_would_be_wrong_is_refused():
    _, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match="each show a heat map"):
        plot.colorbar(axes)
    for ax, vmax in zip(axes, (0.1, 0.2), strict=True):
        plot.density(gauss, ax=ax, vmax=vmax)
    with pytest.raises(ValueError, match="on one scale, got 0 to 0.1, 0 to 0.2"):
        plot.colorbar(axes)
    with pytest.raises(ValueError, match="each show a heat map"):
        plot.colorbar([])


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ({"vmax": 1e-13}, {"vmax": 9e-13}, "0 to 1e-13, 0 to 9e-13"),
        ({"vmin": 0.3, "vmax": 0.3}, {"vmin": 0.5, "vmax": 0.5}, "0.3 to 0.3, 0.5 to 0.5"),
        ({"vmax": 1}, {"vmax": 1, "cmap": "magma"}, "magma, Normalize, nfcourse_density, Normalize"),
        ({"vmax": 1}, {"norm": SymLogNorm(0.1, vmin=0, vmax=1)}, "Normalize, nfcourse_density, SymLogNorm"),
        ({"norm": PowerNorm(0.5, 0, 1)}, {"norm": PowerNorm(0.6, 0, 1)}, "PowerNorm"),
    ],
)
def test_a_colour_bar_sees_scale_map_and_norm(left, right, message):
    _, axes = plt.subplots(1, 2)
    for ax, look in zip(axes, (left, right), strict=True):
        ax.imshow([[0.0, 0.2]], **({} if "norm" in look else {"vmin": 0}) | {"cmap": plot.DENSITY} | look)
    with pytest.raises(ValueError, match=f"on one scale, got .*{message}"):
        plot.colorbar(axes)


def test_a_colour_bar_forgives_rounding():
    _, axes = plt.subplots(1, 2)
    for ax, vmax in zip(axes, (0.3, 0.1 + 0.2), strict=True):
        plot.density(gauss, ax=ax, vmax=1e6 * vmax)
    assert plot.colorbar(axes).vmax == 3e5


def test_letters_can_be_read_on_a_phone():
    """A figure of 6 inches is shown at 345 of its 576 pixels; a point is 96 / 72 of them."""
    width = plt.rcParams["figure.figsize"][0]
    assert width <= 6
    for name in ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "axes.labelsize", "font.size"):
        assert plt.rcParams[name] * 96 / 72 * 345 / (6 * 96) >= 7.95, name
    ax = plot.density(gauss)
    assert ax.texts[0].get_fontsize() >= 10


def test_style_is_silent_outside_of_notebooks(capsys):
    plot.style()
    assert capsys.readouterr() == ("", "")


def test_density_does_not_change_a_model_and_asks_in_its_dtype():
    flow = nf.Flow(nf.StandardNormal(2), nf.Compose(nf.BatchNorm(2), nf.Affine(2))).double()
    before = {k: v.clone() for k, v in flow.state_dict().items()}
    for ask in (flow, flow.log_prob):
        plot.density(ask, n=20)
    assert all(m.training for m in flow.modules())
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())


def test_density_restores_the_mode_after_an_error():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("on purpose")

    model = Broken()
    with pytest.raises(RuntimeError):
        plot.density(model)
    assert model.training and torch.is_grad_enabled()


@pytest.mark.parametrize("box", [(1, -1), (0, 0), (0, math.inf), (0, 1, 2), ((0, 1), (1, 0)), 3, (math.nan, 1)])
def test_bad_box(box):
    for call in (lambda: plot.density(gauss, box), lambda: plot.warped_grid(lambda z: z, box)):
        with pytest.raises(ValueError, match="box expects"):
            call()


def test_density_errors():
    with pytest.raises(ValueError, match=r"expects to return shape \(40000,\).*got \(40000, 1\)"):
        plot.density(lambda x: x[:, :1])
    with pytest.raises(ValueError, match="returned NaN, first at the point"):
        plot.density(lambda x: x[:, 0].sqrt())
    with pytest.raises(ValueError, match="at least one cell"):
        plot.density(gauss, n=0)


# ---------------------------------------------------------------- points and grids


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray, np.ndarray.tolist])
def test_scatter(kind):
    x = np.random.default_rng(0).normal(size=(50, 2))
    ax = plot.scatter(kind(x), box=(-3, 3), color="model")
    assert np.allclose(ax.collections[0].get_offsets(), x)
    assert to_hex(ax.collections[0].get_facecolor()[0]) == plot.COLORS["model"].lower()
    assert ax.get_xlim() == ax.get_ylim() == (-3, 3) and ax.get_aspect() == 1


def test_scatter_with_labels_differs_in_colour_and_shape():
    x, k = torch.randn(60, 2, requires_grad=True), torch.arange(60) % 3
    ax = plot.scatter(x, k, legend=True)
    assert [len(c.get_offsets()) for c in ax.collections] == [20, 20, 20]
    assert len({to_hex(c.get_facecolor()[0]) for c in ax.collections}) == 3
    assert len({len(c.get_paths()[0].vertices) for c in ax.collections}) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["0", "1", "2"]


def test_scatter_of_nothing():
    assert len(plot.scatter(torch.zeros(0, 2)).collections[0].get_offsets()) == 0


def test_scatter_errors():
    with pytest.raises(ValueError, match=r"points of shape \(n, 2\)"):
        plot.scatter(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="one label for each of 5 points"):
        plot.scatter(torch.zeros(5, 2), torch.zeros(4))


def test_warped_grid_draws_the_image_of_lines():
    ax = plot.warped_grid(lambda z: z * torch.tensor([2.0, 1.0]) + 1, (-1, 1), lines=3, n=5)
    lines = [line.get_xydata() for line in ax.lines]
    assert len(lines) == 6
    assert np.allclose(lines[0], np.stack([np.linspace(-1, 3, 5), np.zeros(5)], 1))
    assert np.allclose(lines[3], np.stack([np.full(5, -1.0), np.linspace(0, 2, 5)], 1))
    assert len({line.get_color() for line in ax.lines}) == 2
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[1] == widths[4] == max(widths) > widths[0]


@pytest.mark.parametrize("invert", [False, True])
def test_warped_grid_takes_bijections(invert):
    f = nf.Affine(2).double()
    with torch.no_grad():
        f.loc.fill_(1.0)
    ax = plot.warped_grid(nf.Inverse(f) if invert else f, (-1, 1), lines=2)
    assert np.allclose(ax.lines[0].get_xydata()[0], -2 if invert else 0)


def test_warped_grid_breaks_lines_at_infinity():
    ax = plot.warped_grid(lambda z: 1 / z, (-1, 1), lines=3, n=3)
    assert all(np.isfinite(line.get_xydata()[[0, -1], 0]).all() for line in ax.lines[:1])
    assert not any(np.isinf(line.get_xydata()).any() for line in ax.lines)
    drawn(ax)


def test_warped_grid_errors():
    with pytest.raises(ValueError, match="at least 2 lines"):
        plot.warped_grid(lambda z: z, lines=1)
    with pytest.raises(ValueError, match="points of shape"):
        plot.warped_grid(lambda z: z[:, 0])
    with pytest.raises(ValueError, match="to return 241 points"):
        plot.warped_grid(lambda z: z[:5])


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("shape", [(6, 64), (6, 8, 8), (6, 1, 8, 8), (6, 8, 8, 1)])
def test_images_lays_out_rows(shape):
    x = torch.arange(6 * 64).reshape(shape)
    ax = plot.images(x, rows=2)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2 * 8 + 1, 3 * 8 + 2)
    assert np.allclose(sheet[:8, :8], np.arange(64).reshape(8, 8) / 383)
    assert np.allclose(sheet[9:, 18:], np.arange(5 * 64, 6 * 64).reshape(8, 8) / 383)
    assert not ax.axison
    drawn(ax)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 4, 4, 3)])
def test_images_in_colour(shape):
    assert plot.images(torch.rand(shape), rows=1).images[0].get_array().shape == (4, 9, 3)


def test_images_scale_and_incomplete_rows():
    ax = plot.images(torch.full((5, 4), 4.0), rows=2, vmin=0, vmax=16)
    sheet = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert np.allclose(sheet[:2, :2], 0.25) and np.isnan(sheet[3:, 6:]).all()
    assert np.allclose(plot.images(torch.ones(1, 4)).images[0].get_array(), 0)


@pytest.mark.parametrize("shape", [(3, 5), (64,), (0, 8, 8), (2, 2, 8, 8), (1, 1, 1, 2, 2)])
def test_images_errors(shape):
    with pytest.raises(ValueError, match="images expects"):
        plot.images(torch.zeros(shape))


def test_images_rows():
    with pytest.raises(ValueError, match="rows expects a positive"):
        plot.images(torch.zeros(2, 4), rows=0)


# ---------------------------------------------------------------- curves, histograms, training


def test_line_by_points_and_by_function():
    ax = plot.line([0, 1, 2], torch.tensor([1.0, 2.0, 4.0]), color="#123456", linestyle="--")
    assert np.allclose(ax.lines[0].get_xydata(), [[0, 1], [1, 2], [2, 4]]) and ax.lines[0].get_color() == "#123456"
    assert ax.get_legend() is None
    assert plot.line((0, 2), torch.sqrt, ax, label="root", fill=True) is ax
    assert len(ax.lines[1].get_xdata()) == 401 and ax.lines[1].get_color() == plot.COLORS["model"]
    assert ax.get_legend() is not None and len(ax.collections) == 1


def test_line_errors():
    for y in ([1, 2], lambda t: t[:2], [[1, 2, 3]]):
        with pytest.raises(ValueError, match="one shape"):
            plot.line([1, 2, 3], y)


def normal(t):
    return torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)


def legend(ax):
    return sorted(t.get_text() for t in ax.get_legend().get_texts())


def test_histogram_is_normalized_over_all_samples():
    samples = np.random.default_rng(0).normal(size=4000)
    ax = plot.hist_with_density(samples, normal, box=(0, 5))
    share = (samples > 0).mean()
    assert legend(ax) == ["density, ∫ = 0.500", f"samples, ∫ = {share:.3f}"]
    assert math.isclose(sum(b.get_height() * b.get_width() for b in ax.patches), share)
    assert ax.get_xlim() == (0, 5)


def test_histogram_alone_and_with_names():
    assert legend(plot.hist_with_density(torch.rand(100, 1), labels=("u", "p"))) == ["u, ∫ = 1.000"]


@pytest.mark.parametrize("samples", [[], [[1, 2]], [1.0, math.nan], [math.inf]])
def test_histogram_errors(samples):
    with pytest.raises(ValueError, match="samples expects finite"):
        plot.hist_with_density(samples, normal)


def test_histogram_density_shape():
    with pytest.raises(ValueError, match="density expects to return"):
        plot.hist_with_density([1.0, 2.0], lambda t: t[:, None])


def run(**more):
    h = {"steps": [1, 2, 3, 4], "loss": [4.0, 3.0, 2.0, 1.0], "validation_steps": [], "validation": []}
    return types.SimpleNamespace(**{**h, "best": None, "best_step": None, **more})


def test_history_without_validation():
    ax = plot.history(run(), window=2)
    assert np.allclose(ax.lines[1].get_xydata(), [[2, 3.5], [3, 2.5], [4, 1.5]])
    assert "nats" in ax.get_ylabel() and legend(ax) == ["training batches, mean of 2"]


def test_history_of_a_real_run():
    from nfcourse.train import History

    ax = plot.history(History([1, 2], [3.0, 2.0], [1, 2], [2.5, 2.25], 2.25, 2, 0.1), label="affine")
    assert "affine: best, 2.250" in legend(ax)
    assert np.allclose(ax.lines[-1].get_xydata(), [[2, 2.25]])


def test_history_errors():
    with pytest.raises(ValueError, match="at least one step"):
        plot.history(run(steps=[], loss=[]))
    with pytest.raises(ValueError, match="window expects"):
        plot.history(run(), window=0)
