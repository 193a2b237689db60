"""Data: densities that are true, draws that follow them, files that are whole or refused."""

import functools
import gzip
import hashlib
import http.server
import math
import struct
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nfcourse import check, data
from nfcourse.data import images

EXACT = [n for n in data.TOYS if not n.startswith("U")]


@pytest.mark.parametrize("name", EXACT)
def test_density_integrates_to_one(name):
    toy = data.toy(name)
    low, high = toy.box
    check.integral(toy.log_prob, [low, low], [high, high], n=400, tol=2e-3, name=name)


@pytest.mark.parametrize("name", EXACT)
def test_draws_follow_the_density(name):
    """Chi-square on a 12 x 12 grid of cells, whose probabilities are integrals of the density."""
    toy, n = data.toy(name), 40_000
    low, high = toy.box
    x = toy.sample(n, seed=3).double().numpy()
    counts = np.histogram2d(*x.T, bins=12, range=[[low, high]] * 2)[0]
    fine = 12 * 20
    t = low + (high - low) * (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
    p = toy.log_prob(torch.cartesian_prod(t, t)).exp().reshape(12, 20, 12, 20).sum((1, 3)).numpy()
    expected = n * p * ((high - low) / fine) ** 2
    outside = counts.sum(), expected.sum()
    assert abs(outside[0] - outside[1]) < 5 * np.sqrt(n - expected.sum() + 10)
    keep = expected > 10
    chi2 = float(((counts - expected)[keep] ** 2 / expected[keep]).sum())
    assert stats.chi2.sf(chi2, keep.sum()) > 1e-4, f"chi-square {chi2:.0f} over {keep.sum()} cells"


@pytest.mark.parametrize("name", EXACT)
def test_seeds_shapes_and_dtypes(name):
    toy = data.toy(name)
    assert torch.equal(toy.sample(50, seed=1), toy.sample(50, seed=1))
    assert not torch.equal(toy.sample(50, seed=1), toy.sample(50, seed=2))
    x = toy.sample(7)
    assert x.shape == (7, 2) and x.dtype == torch.float32 and toy.sample(0).shape == (0, 2)
    for dtype in (torch.float32, torch.float64):
        assert toy.log_prob(x.to(dtype)).dtype == dtype
    assert toy.log_prob(x.reshape(7, 1, 2)).shape == (7, 1)
    assert toy.log_prob(x[0]).shape == () and toy.log_prob(x[:0]).shape == (0,)
    inside = ((x > toy.box[0]) & (x < toy.box[1])).all()
    assert inside and torch.isfinite(toy.log_prob(toy.sample(500))).all()


def test_quadrature_of_the_curves_has_converged():
    for name in ("moons", "spirals"):
        toy, x = data.toy(name), data.toy(name).sample(200).double()
        fine = type(toy)(name, toy.curves, toy.std, nodes=4 * len(toy.t), power=toy.power)
        assert (toy.log_prob(x) - fine.log_prob(x)).abs().max() < 1e-6


def test_the_inflated_pinwheel_is_the_pinwheel_inflated():
    plain, large = data.pinwheel(), data.pinwheel(inflate=0.5)
    u, x = plain.sample(2000, seed=3).double(), large.sample(2000, seed=3).double()
    w = large.unwarp(x)
    assert torch.allclose(large.warp(w), x) and torch.allclose(w, plain.untwist(u), atol=1e-5)
    jac = torch.func.vmap(torch.func.jacrev(large.warp))(w)
    assert torch.allclose(large.log_prob(x), plain.log_prob(large.twist_map(w)) - jac.det().log(), atol=1e-9)
    assert float(jac.det().max()) > 2, "it does inflate"
    check.integral(large.log_prob, *([end] * 2 for end in large.box), n=800)
    assert (x.abs() < large.box[1]).all(1).double().mean() > 0.999
    zero = torch.zeros(1, 2, dtype=torch.float64)
    assert torch.equal(large.warp(zero), zero) and torch.equal(large.unwarp(zero), zero)
    assert torch.isfinite(torch.func.jacrev(large.warp)(torch.tensor([1e-8, 0.0])).det())
    for bad in (-1.0, math.inf, math.nan, "1", None, 1000):
        with pytest.raises(ValueError, match="inflate expects a rate"):
            data.pinwheel(inflate=bad)
    for bad in (torch.ones(3), torch.ones(5, 1), torch.ones(2, dtype=torch.int64), [0.0, 1.0]):
        for move in (large.warp, large.unwarp):
            with pytest.raises(ValueError, match="floating-point tensor of shape"):
                move(bad)


def test_the_inflated_density_is_smooth_at_the_centre():
    """log_prob is that of the plain law, less r²/6 and higher terms: its second derivatives come from the series."""
    large, plain = data.pinwheel(inflate=0.5), data.pinwheel()
    points = torch.tensor([[0.0, 0.0], [1e-8, 0.0], [1e-30, 0.0], [1e-4, 1e-4]], dtype=torch.float64)
    hessian = torch.func.vmap(torch.func.hessian(large.log_prob))(points)
    assert torch.isfinite(hessian).all() and (hessian - hessian[:1]).abs().max() < 1e-3
    assert torch.allclose(large.warp(points), plain.twist_map(points), rtol=1e-6, atol=0)
    r = torch.tensor([[1e-3, 0.0]], dtype=torch.float64)
    stretch = (plain.log_prob(large.twist_map(r)) - large.log_prob(large.warp(r))).item()
    assert abs(stretch - 4 / 6 * 0.25e-6) < 1e-12, "cosh(s) sinh(s)/s = 1 + 4 s²/6 + …, s = r/2"


def test_pinwheel_is_a_twisted_star():
    pinwheel = data.pinwheel()
    x, k = pinwheel.sample(5000, seed=0, labels=True)
    assert torch.equal(x, pinwheel.sample(5000, seed=0))
    w = pinwheel.untwist(x.double())
    assert torch.allclose(pinwheel.twist_map(w), x.double())
    jac = torch.func.vmap(torch.func.jacrev(pinwheel.twist_map))(w[:100])
    assert torch.allclose(jac.det(), torch.ones(100, dtype=torch.float64))
    for arm in range(5):
        mean, covariance = w[k == arm].mean(0), w[k == arm].T.cov()
        assert (mean - pinwheel.means[arm]).abs().max() < 0.06
        assert (covariance - pinwheel.covariances[arm]).abs().max() < 0.04
        normal = torch.distributions.MultivariateNormal(pinwheel.means[arm], pinwheel.covariances[arm])
        assert torch.allclose(pinwheel.log_prob_given(x.double(), arm), normal.log_prob(w), atol=1e-8)
    posterior = torch.stack([pinwheel.log_prob_given(x, j) for j in range(5)], -1).softmax(-1)
    assert torch.allclose(pinwheel.log_prob_given(x, k), posterior.gather(-1, k[:, None])[:, 0].log()
                          + pinwheel.log_prob(x) + np.log(5), atol=1e-3)  # fmt: skip
    # calibrated: the mean posterior of the true label equals the mean of the squared posterior, summed
    hit = posterior.gather(-1, k[:, None]).mean()
    assert abs(float(hit - posterior.square().sum(-1).mean())) < 0.01


def test_energies():
    z = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert data.energy("U1").energy(z)[0] < data.energy("U1").energy(z)[1]
    assert abs(float(data.energy("U2").energy(torch.tensor([1.0, 1.0])))) < 1e-6
    for name in ("U1", "U2", "U3", "U4"):
        energy = data.energy(name)
        assert abs(energy.log_normalizer(400) - energy.log_normalizer(800)) < 1e-4
        with pytest.raises(NotImplementedError, match="normalizer"):
            energy.log_prob(z)
        with pytest.raises(NotImplementedError, match="sampler"):
            energy.sample(3)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(EXACT),
    shape=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]),
    value=st.sampled_from([0.25, float("nan"), float("inf"), -float("inf")]),
)
def test_any_input_gives_a_density_or_a_value_error(name, shape, dtype, value):
    try:
        x = torch.full(shape, value).to(dtype)
        log_p = data.toy(name).log_prob(x)
    except ValueError:
        return
    assert shape[-1] == 2 and log_p.shape == shape[:-1]
    assert torch.equal(torch.isnan(log_p), torch.full(log_p.shape, not np.isfinite(value)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.toy("moon"), "moons"),
        (lambda: data.energy("pinwheel"), "U1"),
        (lambda: data.pinwheel().sample(-1), "n >= 0"),
        (lambda: data.pinwheel().sample(2.5), "n >= 0"),
        (lambda: data.pinwheel().log_prob_given(torch.zeros(2), 5), "labels"),
        (lambda: data.pinwheel().log_prob([0.0, 0.0]), "list"),
        (lambda: data.digits("validation"), "validation"),
        (lambda: data.fashion_mnist_small("val"), "val"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_digits():
    x, y = data.digits("train")
    x_test, y_test = data.digits("test")
    assert x.shape == (1297, 64) and x_test.shape == (500, 64) and x.dtype == y.dtype == torch.int64
    assert int(x.min()) == 0 and int(x.max()) == 16 and set(y_test.tolist()) == set(range(10))


def test_small_fashion_mnist():
    for split, n in (("train", 10_000), ("test", 2_000)):
        x, y = data.fashion_mnist_small(split)
        assert x.shape == (n, 28, 28) and x.dtype == torch.uint8 and y.shape == (n,) and y.dtype == torch.int64
        assert int(x.max()) == 255 and y.bincount().min() > 0.08 * n


def test_small_images_are_the_first_of_the_full_set():
    if not images.DEBIAN.is_dir():
        pytest.skip(f"Fashion-MNIST is not in {images.DEBIAN} (Debian's package dataset-fashion-mnist)")
    full, labels = data.fashion_mnist("train")
    small, small_labels = data.fashion_mnist_small("train")
    assert full.shape == (60_000, 28, 28)
    assert torch.equal(full[:10_000], small) and torch.equal(labels[:10_000], small_labels)


# ---- files ----


def idx(array, magic=None):
    """The bytes of an IDX file."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return (magic or head[:4]) + head[4:] + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """A small set in the form of MNIST, one file gzipped, one plain."""
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 6), ("t10k", 3)):
        x, y = rng.integers(256, size=(n, 4, 4)), rng.integers(10, size=n)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(y))
    return tmp_path


def test_reads_plain_and_gzipped(folder):
    x, y = data.idx_images(folder, "train")
    assert x.shape == (6, 4, 4) and y.shape == (6,) and x.dtype == torch.uint8 and y.dtype == torch.int64
    assert data.idx_images(folder, "test")[0].shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-labels-idx1-ubyte", lambda b: b[:-1], "expected 6 bytes"),
        ("train-labels-idx1-ubyte", lambda b: b + b"\0", "expected 6 bytes"),
        ("train-labels-idx1-ubyte", lambda b: b[:6], "header"),
        ("train-labels-idx1-ubyte", lambda b: b"", "empty"),
        ("train-labels-idx1-ubyte", lambda b: b"\0\0\x0d\x01" + b[4:], "00000d01"),
        ("train-labels-idx1-ubyte", lambda b: b"\x89PNG" + b[4:], "89504e47"),
        ("train-labels-idx1-ubyte", lambda b: idx(np.zeros(5)), "as many labels"),
        ("train-labels-idx1-ubyte", lambda b: idx(np.zeros((6, 1))), "1 dimensions"),
        ("train-images-idx3-ubyte.gz", lambda b: b[:-9], "truncated"),
        ("train-images-idx3-ubyte.gz", lambda b: b[:30] + bytes(5) + b[35:], "gzip"),
    ],
)
def test_damaged_files_are_refused(folder, name, change, message):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        data.idx_images(folder, "train")
    assert name.removesuffix(".gz") in str(error.value) or "as many" in message


def test_altered_bytes_are_refused(folder):
    path = folder / "train-labels-idx1-ubyte"
    sums = {"train-labels-idx1-ubyte": hashlib.sha256(path.read_bytes()).hexdigest()}
    sums["train-images-idx3-ubyte"] = hashlib.sha256(
        gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    ).hexdigest()
    data.idx_images(folder, "train", sums)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="SHA-256"):
        data.idx_images(folder, "train", sums)


def test_missing_files_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("NFCOURSE_DATA", str(tmp_path))
    with pytest.raises(data.DataMissing, match="download_fashion_mnist") as error:
        data.fashion_mnist("test")
    assert "t10k-images-idx3-ubyte" in str(error.value) and isinstance(error.value, FileNotFoundError)


def test_shipped_files_are_checked(monkeypatch):
    monkeypatch.setitem(images.SMALL_SHA256, "fashion-mnist-small-test-labels", "0" * 64)
    with pytest.raises(ValueError, match="altered"):
        data.fashion_mnist_small("test")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that does not write to the terminal."""

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server(folder, monkeypatch):
    """The small set served on loopback, with checksums to match."""
    for path in folder.iterdir():
        if path.suffix != ".gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    contents = {stem: gzip.decompress((folder / f"{stem}.gz").read_bytes()) for stem in images.FASHION_MNIST}
    sums = {stem: hashlib.sha256(content).hexdigest() for stem, content in contents.items()}
    monkeypatch.setattr(images, "FASHION_MNIST", sums)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}/"
    httpd.shutdown()
    httpd.server_close()


def test_download(server, tmp_path_factory):
    _, url = server
    target = tmp_path_factory.mktemp("download")
    data.download_fashion_mnist(target, base_url=url)
    assert data.fashion_mnist("train", root=target)[0].shape == (6, 4, 4)
    stamp = (target / "train-images-idx3-ubyte.gz").stat().st_mtime_ns
    data.download_fashion_mnist(target, base_url=url)
    assert (target / "train-images-idx3-ubyte.gz").stat().st_mtime_ns == stamp, "a right file was fetched again"
    (target / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    data.download_fashion_mnist(target, base_url=url)
    assert data.fashion_mnist("train", root=target)[0].shape == (6, 4, 4)


@pytest.mark.parametrize("harm", ["truncated", "altered", "missing"])
def test_a_broken_download_leaves_nothing(server, tmp_path_factory, harm):
    folder, url = server
    path = folder / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-8] if harm == "truncated" else gzip.compress(gzip.decompress(content)[:-1] + b"\7"))
    target = tmp_path_factory.mktemp("download")
    with pytest.raises(ConnectionError if harm == "missing" else ValueError, match="train-images"):
        data.download_fashion_mnist(target, base_url=url)
    assert list(target.iterdir()) == []


def test_no_answer_is_a_connection_error(tmp_path):
    with pytest.raises(ConnectionError, match="could not be fetched"):
        data.download_fashion_mnist(tmp_path, base_url="http://127.0.0.1:9/", timeout=2)
