"""Scenes of real handwritten digits with tight boxes around them.

The digits are the 1,797 scans of 8 x 8 pixels that come with scikit-learn
(``load_digits``; from the UCI repository). Draws come from NumPy's legacy
generator, which is frozen, and resampling is in integers, so that a scene
depends neither on versions nor on the machine.
"""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]

CLASSES = (
    *('zero', 'one', 'two', 'three', 'four'),
    *('five', 'six', 'seven', 'eight', 'nine'),
)
NUM_CLASSES = len(CLASSES)
_VAL_SHARE = 0.2  # of the scans of each class: never seen in training
_HEIGHTS = (28, 48)  # px, of a digit
_STRETCH = (1.0, 1.3)  # of its width
_MAX_OVERLAP = 0.03  # of two boxes, as a share of the smaller one
_MIN_CONTRAST = 85  # of luminance (0..255), digit against its background


@functools.lru_cache(maxsize=1)
def digit_scans(seed: int) -> dict[str, list[np.ndarray]]:
    """Divide the scans between training and validation.

    Args:
        seed (int): Seed of the division.

    Returns:
        dict[str, list[np.ndarray]]: For ``'train'`` and ``'val'``, the scans
        of each class, shape (num_scans, 8, 8), uint8.
    """
    # Heavy, and only needed when the data set is not there yet.
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans = np.round(digits.images * (255 / 16)).astype(np.uint8)
    rng = np.random.RandomState(seed)
    divided = dict(train=[], val=[])
    for label in range(NUM_CLASSES):
        of_class = rng.permutation(np.flatnonzero(digits.target == label))
        num_val = round(len(of_class) * _VAL_SHARE)
        divided['val'].append(scans[of_class[:num_val]])
        divided['train'].append(scans[of_class[num_val:]])
    return divided


def scans_of(portion: str, seed: int) -> list[np.ndarray]:
    """Choose the scans that a portion of the images is drawn from.

    Args:
        portion (str): ``'train'`` or ``'tune'``, which have new pictures of
            the same scans; ``'val'`` or ``'test'``.
        seed (int): See :func:`digit_scans`.

    Returns:
        list[np.ndarray]: The scans of each class, shape (num_scans, 8, 8).
    """
    return digit_scans(seed)['val' if portion in ('val', 'test') else 'train']


def draw_scene(
    rng: np.random.RandomState,
    scans: Sequence[np.ndarray],
    size: int,
    max_digits: int,
) -> tuple[np.ndarray, list[tuple[int, Box]]]:
    """Draw one scene.

    Args:
        rng (RandomState): Source of all that is random.
        scans (Sequence[np.ndarray]): Scans of each class, see
            :func:`digit_scans`.
        size (int): Height and width in pixels.
        max_digits (int): Largest number of digits.

    Returns:
        tuple: The picture, shape (size, size, 3), uint8, RGB; and the label
        and the box (x, y, width, height) in pixels of each digit.
    """
    picture = _draw_background(rng, size)
    objects = []
    for _ in range(rng.randint(1, max_digits + 1)):
        label = rng.randint(len(scans))
        ink = _draw_digit(rng, scans[label][rng.randint(len(scans[label]))])
        h, w = ink.shape
        for _ in range(30):  # a digit that finds no free place is left out
            x, y = rng.randint(size - w + 1), rng.randint(size - h + 1)
            box = (int(x), int(y), w, h)
            overlaps = [_overlap(box, other) for _, other in objects]
            if max(overlaps, default=0) <= _MAX_OVERLAP:
                _paint(rng, picture, box, ink, _MIN_CONTRAST)
                objects.append((int(label), box))
                break
    return np.round(picture).clip(0, 255).astype(np.uint8), objects


def draw_digit(
    rng: np.random.RandomState,
    scan: np.ndarray,
    size: int,
    min_contrast: float = 90,
) -> np.ndarray:
    """Draw one digit that nearly fills its picture.

    Args:
        rng (RandomState): Source of all that is random: place, size, width,
            colours, background and grain.
        scan (np.ndarray): Scan of a digit, shape (8, 8), uint8.
        size (int): Height and width in pixels.
        min_contrast (float): Least difference in luminance (0..255) between
            digit and background. Defaults to 90.

    Returns:
        np.ndarray: The picture, shape (size, size, 3), uint8, RGB.
    """
    picture = _draw_background(rng, size)
    # Soft edges: thin strokes of so small a scan would be cut.
    heights, stretch = (0.75 * size, 0.9 * size), (0.9, 1.05)
    ink = _draw_digit(rng, scan, heights, stretch, edge=(0.1, 0.6))
    h, w = ink.shape
    x, y = (_place(rng, size - length, size) for length in (w, h))
    _paint(rng, picture, (x, y, w, h), ink, min_contrast)
    return np.round(picture).clip(0, 255).astype(np.uint8)


def _draw_background(rng: np.random.RandomState, size: int) -> np.ndarray:
    """Soft blotches around a dark colour under a fine grain, float RGB."""
    base = rng.uniform(30, 110, 3)
    cells = rng.randint(3, 7)
    blotches = rng.randint(0, 256, (cells, cells)).astype(np.uint8)
    texture = _resize(blotches, size, size)[..., None] / 255 - 0.5
    grain = rng.randint(-7, 8, (size, size, 1))
    return base + texture * rng.uniform(-60, 60, 3) + grain


def _draw_digit(
    rng: np.random.RandomState,
    scan: np.ndarray,
    heights: tuple[float, float] = _HEIGHTS,
    stretch: tuple[float, float] = _STRETCH,
    edge: tuple[float, float] = (0.33, 0.6),
) -> np.ndarray:
    """Opacity (h, w) in 0..1 of a scan at a random scale, cut to its ink.

    Opacity goes from 0 to 1 between the two darknesses of ``edge``.
    """
    scale = rng.uniform(*heights) / len(scan)
    blank = np.pad(scan, 1)  # else ink at the border would be cut off
    height, width = scale * np.array(blank.shape)
    width *= rng.uniform(*stretch)
    blurred = _resize(blank, round(height), round(width)) / 255
    ink = ((blurred - edge[0]) / (edge[1] - edge[0])).clip(0, 1)
    solid = ink >= 0.5
    rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic; on 8-bit images Pillow does it in integers."""
    return np.asarray(
        Image.fromarray(image).resize((width, height), Image.BICUBIC)
    )


def _place(rng: np.random.RandomState, room: int, size: int) -> int:
    """Where something begins that leaves ``room``: near the middle."""
    shift = rng.randint(-(size // 16), size // 16 + 1)
    return min(max(room // 2 + shift, 0), room)


def _paint(
    rng: np.random.RandomState,
    picture: np.ndarray,
    box: Box,
    ink: np.ndarray,
    min_contrast: float,
) -> None:
    """Paint a digit in a random colour that stands out from its ground."""
    x, y, w, h = box
    region = picture[y : y + h, x : x + w]
    luminance = np.array([0.299, 0.587, 0.114])
    ground = (region.mean((0, 1)) * luminance).sum()
    for _ in range(50):
        colour = rng.uniform(0, 255, 3)
        if (colour * luminance).sum() - ground >= min_contrast:
            break
    else:
        colour = np.full(3, 255.0)
    region += ink[..., None] * (colour - region)


def _overlap(box: Box, other: Box) -> float:
    """Intersection of two xywh boxes over the area of the smaller."""
    sides = [
        min(box[i] + box[i + 2], other[i] + other[i + 2])
        - max(box[i], other[i])
        for i in (0, 1)
    ]
    smaller = min(box[2] * box[3], other[2] * other[3])
    return max(sides[0], 0) * max(sides[1], 0) / smaller
