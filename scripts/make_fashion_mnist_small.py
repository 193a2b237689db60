"""Make the images that ship with the package: the first 10,000 training and 2,000 test images of Fashion-MNIST.

Run once, with the full set in place (see nfcourse.data.fashion_mnist): ``python scripts/make_fashion_mnist_small.py``.
It writes four gzipped IDX files to nfcourse/assets and prints the SHA-256 of their uncompressed content, which stand
in nfcourse/data/images.py. Gzip gets no name and no time, so the files are the same at every run.
"""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

from nfcourse.data import fashion_mnist
from nfcourse.data.images import SMALL

ASSETS = Path(__file__).parents[1] / "nfcourse" / "assets"


def main():
    """Write the four files."""
    ASSETS.mkdir(exist_ok=True)
    for split, (stem, n) in SMALL.items():
        images, labels = fashion_mnist(split)
        for kind, array in (("images", images[:n].numpy()), ("labels", labels[:n].numpy().astype(np.uint8))):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content = header + array.tobytes()
            (ASSETS / f"{stem}-{kind}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
            print(f'    "{stem}-{kind}": "{hashlib.sha256(content).hexdigest()}",')


if __name__ == "__main__":
    main()
