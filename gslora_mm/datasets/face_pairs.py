"""Lists of image pairs for face verification. Imports nothing heavy."""

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from gslora_mm.utils.atomic import atomic_write
from gslora_mm.utils.errors import ConfigError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')


def face_pairs(
    images: Mapping[str, Sequence[str]],
    same: int = 20,
    different: int = 1,
    seed: int = 0,
) -> list[tuple[str, str, int]]:
    """Draw pairs so that every group of identities has both kinds.

    Pairs of two identities are drawn for every two identities, so that also
    a split of few identities has many: 20 identities have 190.

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
    names = sorted(images)
    pairs = []
    for name in names:
        own = list(itertools.combinations(sorted(images[name]), 2))
        chosen = rng.sample(own, min(same, len(own)))
        pairs += [(first, second, 1) for first, second in chosen]
    for one, other in itertools.combinations(names, 2):
        if not images[one] or not images[other]:
            continue
        for _ in range(different):
            pairs.append(
                (
                    rng.choice(sorted(images[one])),
                    rng.choice(sorted(images[other])),
                    0,
                )
            )
    return pairs


def list_images(root: str | os.PathLike) -> dict[str, list[str]]:
    """Images of a folder that has one folder an identity.

    Args:
        root (str | os.PathLike): The folder, such as ``data/casia100/val``.

    Returns:
        dict[str, list[str]]: Paths relative to ``root``, by identity.

    Raises:
        ConfigError: If there are fewer than two identities.
    """
    root = Path(root)
    images = {
        folder.name: sorted(
            path.relative_to(root).as_posix()
            for path in folder.rglob('*')
            if path.suffix.lower() in SUFFIXES
        )
        for folder in (sorted(root.iterdir()) if root.is_dir() else ())
        if folder.is_dir()
    }
    images = {name: paths for name, paths in images.items() if paths}
    if len(images) < 2:
        raise ConfigError(
            f'--root {root}: {len(images)} folders with images in it; there '
            'must be one for each of at least two identities'
        )
    for path in itertools.chain.from_iterable(images.values()):
        if any(character.isspace() for character in path):
            raise ConfigError(
                f'--root {root}: {path!r} has white space in its name, '
                'which parts the columns of a list of pairs'
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
