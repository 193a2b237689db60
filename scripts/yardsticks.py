"""Measure what general compressors need for the images of the leaderboard, in bits per dimension.

Usage: ``python scripts/yardsticks.py``. It writes book/results/yardsticks.json. What Python and Pillow can do is
measured here, on scikit-learn's digits and, where the files are found, on the 10,000 test images of Fashion-MNIST. The
coders that neither of them has were run once by their own programs; their figures are kept as they were.
"""

import bz2
import io
import json
import lzma
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from sklearn.datasets import load_digits

from nfcourse import data

OUT = Path(__file__).resolve().parents[1] / "book" / "results" / "yardsticks.json"

#: bits per dimension of the 10,000 test images, by programs that are not in the environment
ELSEWHERE = {
    "JPEG-LS, one file per image": 5.54,
    "JPEG-XL, one file per image": 4.30,
    "zstd -19, all together": 4.33,
    "JPEG-LS, one sheet": 3.83,
    "JPEG-XL effort 9, one sheet": 3.66,
}
ELSEWHERE_DIGITS = {"JPEG-XL, one sheet": 3.04}


def histogram(x: np.ndarray) -> float:
    """Return the entropy of the grey values, in bits: a code that takes pixels as independent and knows their law."""
    p = np.bincount(x.ravel()) / x.size
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def pixelwise(train: np.ndarray, test: np.ndarray, levels: int) -> float:
    """Return bits per dimension of one histogram for each pixel, fitted with half a count added to every level."""
    x = train.reshape(len(train), -1)
    counts = np.stack([(x == level).sum(0) for level in range(levels)]) + 0.5
    p = counts / counts.sum(0)
    seen = np.take_along_axis(p, test.reshape(len(test), -1).astype(int), 0)
    return float(-np.log2(seen).mean())


def parts(load: Callable, levels: int) -> tuple[str, float]:
    """Return the name of that yardstick, with the numbers of images to fit and to test, and its score."""
    train, test = (np.asarray(load(part)[0]) for part in ("train", "test"))
    return f"one histogram per pixel, {len(train):,} to fit, {len(test):,} to test", pixelwise(train, test, levels)


def size(image: np.ndarray, **options) -> int:
    """Return the bytes of one picture in a file format."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **options)
    return buffer.tell()


def measure(x: np.ndarray, files: bool) -> dict[str, float]:
    """Return bits per dimension of images (N, H, W) of bytes; ``files`` adds one file for each image."""
    found = {"histogram of grey values": histogram(x)}
    found["bz2 -9, all together"] = 8 * len(bz2.compress(x.tobytes(), 9)) / x.size
    found["xz -9e, all together"] = 8 * len(lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME)) / x.size
    if files:
        png, webp = {"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True, "quality": 100}
        for name, options in (("PNG", png), ("WebP lossless", webp)):
            found[f"{name}, one file per image"] = 8 * sum(size(image, **options) for image in x) / x.size
    return found


def main():
    """Measure both data sets and write the file."""
    digits = load_digits().images.astype(np.uint8)
    groups = {"digits": (f"all {len(digits):,} images of 8 × 8, 17 levels", measure(digits, False), ELSEWHERE_DIGITS)}
    per_pixel = {"digits": parts(data.digits, 17), "fashion-mnist": parts(data.fashion_mnist_small, 256)}
    try:
        fashion = data.fashion_mnist("test")[0].numpy().astype(np.uint8).reshape(-1, 28, 28)
        where = f"the {len(fashion):,} test images of 28 × 28, 256 levels"
        groups["fashion-mnist"] = (where, measure(fashion, True), ELSEWHERE)
    except data.DataMissing as missing:
        print(f"Fashion-MNIST was not measured: {missing}")
    old = json.loads(OUT.read_text("utf8"))["data"] if OUT.exists() else {}
    new = {
        name: {
            "what": what,
            "measured": {k: round(v, 2) for k, v in found.items()},
            "elsewhere": elsewhere,
        }
        for name, (what, found, elsewhere) in groups.items()
    }
    versions = {"python": platform.python_version(), "pillow": PIL.__version__}
    text = {"what": "bits per dimension, exact", "command": "python scripts/yardsticks.py", "versions": versions}
    for name, (what, bits) in per_pixel.items():
        new.setdefault(name, old.get(name, {"what": "", "measured": {}, "elsewhere": {}}))
        new[name]["measured"][what] = round(bits, 2)
    OUT.write_text(json.dumps({**text, "data": {**old, **new}}, indent=1, ensure_ascii=False) + "\n", "utf8")


if __name__ == "__main__":
    main()
