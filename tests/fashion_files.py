"""Fashion-MNIST as the Debian package has it, of few images."""

import gzip
import struct
from pathlib import Path

import numpy as np

#: Images of each part.
COUNTS = dict(train=40, t10k=20)


def make_packed(folder: Path) -> Path:
    """Write the four files, with noise for photographs.

    Args:
        folder: To be made.

    Returns:
        Path: The folder.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (('images-idx3', pixels), ('labels-idx1', labels)):
            magic = 0x800 + array.ndim
            head = struct.pack(f'>{1 + array.ndim}i', magic, *array.shape)
            with gzip.open(folder / f'{split}-{kind}-ubyte.gz', 'wb') as file:
                file.write(head + array.tobytes())
    return folder
