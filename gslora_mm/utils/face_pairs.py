"""Lists of image pairs for face verification. Imports nothing heavy."""

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from .atomic import atomic_write
from .errors import ConfigError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')


def face_pairs(
    images: Mapping[str, Sequence[str]],
    same: int = 20,
    different: int = 1,
    seed: int = 0,
) -> list[tuple[str, str, int]]:
    """Draw pairs so that every group of identities has both kinds.

    Pairs of two identities are drawn for every two identities, so that also
    a few identities have many: 20 identities have 190.

    Args:
        images (Mapping): Images of each identity, by name.
        same (int): Pairs of each identity, or all there are if these are
            fewer. Defaults to 20.
        different (int): Pairs of every two identities. Defaults to 1.
        seed (int): Seed of the draw. Defaults to 0.

    Returns:
        list[tuple[str, str, int]]: Two images and 1 (one identity) or 0.
    """
    rng = random.Random(seed)
    of_each = [sorted(images[name]) for name in sorted(images) if images[name]]
    pairs = []
    for own in of_each:
        candidates = list(itertools.combinations(own, 2))
        chosen = rng.sample(candidates, min(same, len(candidates)))
        pairs += [(*pair, 1) for pair in chosen]
    for one, other in itertools.combinations(of_each, 2):
        pairs += [
            (rng.choice(one), rng.choice(other), 0) for _ in range(different)
        ]
    return pairs


def list_images(root: str | os.PathLike) -> dict[str, list[str]]:
    """List the images of a folder that has one folder an identity.

    Args:
        root (str | os.PathLike): The folder, such as ``data/casia100/val``.

    Returns:
        dict[str, list[str]]: Paths relative to ``root``, by identity.

    Raises:
        ConfigError: If there are fewer than two identities, or a name has
            white space in it.
    """
    images: dict[str, list[str]] = {}
    for path in sorted(Path(root).glob('*/**/*')):
        if path.suffix.lower() in SUFFIXES:
            identity, *_ = path.relative_to(root).parts
            file = path.relative_to(root).as_posix()
            images.setdefault(identity, []).append(file)
    if len(images) < 2:
        raise ConfigError(
            'root',
            str(root),
            f'{len(images)} folders with images in it; there must be one for '
            'each of at least two identities',
        )
    for path in itertools.chain.from_iterable(images.values()):
        if any(character.isspace() for character in path):
            raise ConfigError(
                'root',
                str(root),
                f'{path!r} has white space in its name, which parts the '
                'columns of a list of pairs',
            )
    return images


def save_pairs(
    pairs: Sequence[tuple[str, str, int]], path: str | os.PathLike
) -> None:
    """Write a list of pairs, one a line, atomically.

    Args:
        pairs (Sequence): Two images and 1 or 0.
        path (str | os.PathLike): The file.
    """
    with atomic_write(path) as file:
        for first, second, same in pairs:
            file.write(f'{first} {second} {same}\n'.encode())
