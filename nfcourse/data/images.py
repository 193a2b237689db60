"""Images: what ships with the package, and the full sets from a folder.

Nothing is downloaded unless :func:`download_fashion_mnist` is called.
"""

import gzip
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "DataMissing",
    "digits",
    "download_fashion_mnist",
    "fashion_mnist",
    "fashion_mnist_small",
    "idx_images",
    "read_idx",
]

#: where Debian's package dataset-fashion-mnist puts its files
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

#: SHA-256 of the *uncompressed* files of Fashion-MNIST, so that any compression of them passes
FASHION_MNIST = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

#: the files shipped in nfcourse/assets, made by scripts/make_fashion_mnist_small.py
SMALL = {
    "train": ("fashion-mnist-small-train", 10_000),
    "test": ("fashion-mnist-small-test", 2_000),
}

SMALL_SHA256 = {
    "fashion-mnist-small-train-images": "ed2e37ed5a3a57d212141a69fe0a0de5a7126ffba14ac3f7e76f5f52cc04b1f0",
    "fashion-mnist-small-train-labels": "a69f2dad024ca220a8c4d85f621fdf929042d40c444abde2868903e9220ad517",
    "fashion-mnist-small-test-images": "862035b0a96959b614c9574f4c2b0ae9584ca234813e8d6d7adb7838b12ca46b",
    "fashion-mnist-small-test-labels": "aa3f574d30afaf0d4d9da084a6f8541771e20693d6a97fae6e9a4953fca8f078",
}

URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"

_PREFIX = {"train": "train", "test": "t10k"}


class DataMissing(FileNotFoundError):
    """A data file is not there; the message says which, and how to get it."""


def _split(split: str) -> str:
    if split not in _PREFIX:
        raise ValueError(f'split: expected "train" or "test", got {split!r}.')
    return split


def read_idx(path: str | Path, sha256: str | None = None) -> np.ndarray:
    """Read a file in the IDX format of MNIST, plain or gzipped.

    Args:
        path: The file.
        sha256: Expected SHA-256 of the uncompressed content; ``None`` for any.

    Returns:
        An array of uint8, of the shape that the file's header states.

    Raises:
        DataMissing: If there is no such file.
        ValueError: If the file is truncated, has another magic number, length or checksum, or is not valid gzip;
            names the file, what was expected and what came.
    """
    path = Path(path)
    if not path.is_file():
        raise DataMissing(f"{path}: no such file.")
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: expected a whole gzip file, got a damaged or truncated one: {error}.") from error
    return _parse_idx(content, str(path), sha256)


def _parse_idx(content: bytes, name: str, sha256: str | None) -> np.ndarray:
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != 0x08 or not 1 <= content[3] <= 4:
        raise ValueError(
            f"{name}: expected an IDX file of unsigned bytes (magic number 0x0000080n, n dimensions), "
            f"got the bytes {content[:4].hex() or 'of an empty file'}."
        )
    dims = content[3]
    start = 4 + 4 * dims
    if len(content) < start:
        raise ValueError(f"{name}: expected a header of {start} bytes, got a file of {len(content)}.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dims, 4))
    size = int(np.prod(shape, dtype=object))
    if len(content) - start != size:
        raise ValueError(f"{name}: expected {size} bytes of data for shape {shape}, got {len(content) - start}.")
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"{name}: expected SHA-256 {sha256}, got {found}; the file was altered. Fetch it again.")
    return np.frombuffer(content, np.uint8, size, start).reshape(shape)


def _find(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None)


def idx_images(
    folder: str | Path, split: str = "train", checksums: dict[str, str] | None = None
) -> tuple[Tensor, Tensor]:
    """Read images and labels of MNIST, Fashion-MNIST or a set in the same form from a folder.

    Args:
        folder: Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-...``, plain or with ``.gz``.
        split: ``"train"`` or ``"test"``.
        checksums: SHA-256 of the uncompressed files by name; ``None`` for any content.

    Returns:
        Images, uint8 ``(n, height, width)``, and labels, int64 ``(n,)``.

    Raises:
        DataMissing: If a file is missing; names it.
        ValueError: If a file is damaged, or images and labels do not belong together.
    """
    arrays = []
    for stem, dims in ((f"{_PREFIX[_split(split)]}-images-idx3-ubyte", 3), (f"{_PREFIX[split]}-labels-idx1-ubyte", 1)):
        path = _find(Path(folder), stem)
        if path is None:
            raise DataMissing(f"{Path(folder) / stem}: expected this file, plain or with .gz, got none.")
        array = read_idx(path, None if checksums is None else checksums[stem])
        if array.ndim != dims:
            raise ValueError(f"{path}: expected {dims} dimensions, got {array.ndim}.")
        arrays.append(array)
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(f"{folder}: expected as many labels as images, got {len(labels)} and {len(images)}.")
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def fashion_mnist(split: str = "train", root: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Read the full Fashion-MNIST: 60,000 training or 10,000 test images.

    The files are looked for in ``root``, else in the folder that the environment variable ``NFCOURSE_DATA`` names, else
    where Debian's package ``dataset-fashion-mnist`` puts them. Their SHA-256 is checked.

    Args:
        split: ``"train"`` or ``"test"``.
        root: The folder.

    Returns:
        Images, uint8 ``(n, 28, 28)``, and labels 0 to 9, int64 ``(n,)``.

    Raises:
        DataMissing: If the files are not there; says how to get them.
        ValueError: If a file is truncated or altered.

    Source: Xiao, Rasul and Vollgraf (2017).
    """
    folder = Path(root or os.environ.get("NFCOURSE_DATA") or DEBIAN)
    try:
        return idx_images(folder, split, FASHION_MNIST)
    except DataMissing as error:
        raise DataMissing(
            f"{error} To get Fashion-MNIST: call nfcourse.data.download_fashion_mnist(folder) and set NFCOURSE_DATA "
            "to that folder, or install Debian's package dataset-fashion-mnist. The 12,000 images of "
            "nfcourse.data.fashion_mnist_small need nothing."
        ) from None


def fashion_mnist_small(split: str = "train") -> tuple[Tensor, Tensor]:
    """Return the Fashion-MNIST images that ship with the package.

    They are the first 10,000 training and the first 2,000 test images of the full set, in its order.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        Images, uint8 ``(n, 28, 28)``, and labels 0 to 9, int64 ``(n,)``.

    Raises:
        ValueError: If a shipped file was altered.

    Source: Xiao, Rasul and Vollgraf (2017), MIT licence.
    """
    stem, _ = SMALL[_split(split)]
    assets = resources.files("nfcourse") / "assets"
    arrays = []
    for kind in ("images", "labels"):
        name = f"{stem}-{kind}"
        with resources.as_file(assets / f"{name}.gz") as path:
            arrays.append(read_idx(path, SMALL_SHA256[name]))
    return torch.from_numpy(arrays[0].copy()), torch.from_numpy(arrays[1].astype(np.int64))


def download_fashion_mnist(folder: str | Path, base_url: str = URL, timeout: float = 60.0) -> Path:
    """Download the four files of Fashion-MNIST, about 30 MB, into a folder.

    Each file is written under a temporary name, checked by SHA-256, and only then given its own: a broken download
    never counts as data. Files that are there and right are kept.

    Args:
        folder: Where to; made if it does not exist.
        base_url: Address of the folder that holds the files.
        timeout: Seconds without an answer before giving up.

    Returns:
        The folder.

    Raises:
        ConnectionError: If a file cannot be fetched; names its address.
        ValueError: If what came is not the expected file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stem, sha256 in FASHION_MNIST.items():
        target = folder / f"{stem}.gz"
        if target.is_file():
            try:
                read_idx(target, sha256)
                continue
            except ValueError:
                pass  # a damaged file is replaced
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{stem}-")
        try:
            with os.fdopen(handle, "wb") as file:
                try:
                    with urllib.request.urlopen(f"{base_url}{stem}.gz", timeout=timeout) as answer:
                        while block := answer.read(1 << 16):
                            file.write(block)
                except (urllib.error.URLError, OSError) as error:
                    raise ConnectionError(f"{base_url}{stem}.gz: could not be fetched ({error}).") from error
            read_idx(temporary, sha256)
            os.replace(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return folder


def digits(split: str = "train") -> tuple[Tensor, Tensor]:
    """Return the handwritten digits that scikit-learn ships: 8 x 8 pixels, 17 levels.

    The 1,797 images are split once and for all, 1,297 to train and 500 to test, with every digit in proportion.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        Images, int64 ``(n, 64)`` with values 0 to 16, and labels 0 to 9, int64 ``(n,)``.

    Source: Alpaydin and Kaynak (1998), UCI repository, test part.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    _split(split)
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=500, random_state=0, stratify=y)
    x, y = (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])
    return torch.from_numpy(x.astype(np.int64)), torch.from_numpy(y.astype(np.int64))
