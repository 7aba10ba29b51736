"""``mini_faces``: a face recognition data set that needs no download.

Drawn portraits of people who do not exist, for demos and tests. They are made
in seconds and depend on nothing but their settings.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .face_drawing import draw_appearance, draw_conditions, draw_faces
from gslora_mm.datasets.face_pairs import face_pairs, save_pairs
from .generated import (
    SPLIT_NUMBERS,
    TEST,
    TUNE,
    are_listed_files_there,
    check_range,
    make_splits,
    save_class_folders,
)

MINI_FACES_CLASSES = tuple(f'id_{label:03d}' for label in range(100))
MARKER = 'mini_faces.json'
PAIRS = 'pairs.txt'
_VERSION = 1  # of the way faces are drawn: part of the settings


def make_mini_faces(
    root: str | Path,
    num_ids: int = 100,
    num_train: int = 60,
    num_val: int = 10,
    num_pairs: int = 20,
    seed: int = 0,
    size: int = 32,
    num_tune: int = 10,
    num_test: int = 20,
) -> Path:
    """Make the data set, or return at once where it is already complete.

    An identity is a set of traits (shape of head, eyes, nose and mouth,
    colours of skin, hair and eyes, ...) that is the same in all its pictures.
    Pose, light, expression, clothes, background, noise and what hides a part
    of the face are new in each picture. A picture depends on ``seed``,
    ``size``, its identity and its number alone, so that a smaller set is a
    part of a larger one. ``tune`` and ``test`` have further pictures of the
    same people, to choose settings on and to compare methods on.

    ``pairs.txt`` lists pairs of validation pictures for face verification, a
    line each: ``PATH_A PATH_B SAME``, paths relative to ``val/``, and 1 for
    the same person or 0 for two different ones. There are ``num_pairs`` of
    each identity and one of every two.

    Args:
        root (str | Path): Folder to make, with
            ``{train,val,tune,test}/id_000/000.png`` and so on, the lists of
            files and labels ``{train,val,tune,test}.txt``, and ``pairs.txt``.
        num_ids (int): Number of identities, at least 2 and at most 100.
            Defaults to 100.
        num_train (int): Training pictures of each. Defaults to 60.
        num_val (int): Validation pictures of each, at least 2.
            Defaults to 10.
        num_pairs (int): Pairs of pictures of the same person for each
            identity. Defaults to 20.
        seed (int): Seed of everything that is drawn. Defaults to 0.
        size (int): Height and width in pixels, at least 16. Defaults to 32.
        num_tune (int): Pictures of each to choose settings on; with 0 there
            is no such split. Defaults to 10.
        num_test (int): Pictures of each to compare methods on; with 0 there
            is no such split. Defaults to 20.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: A setting is out of range, or ``root`` holds files that
            are not of a mini_faces.
    """
    settings = dict(
        num_ids=num_ids,
        num_train=num_train,
        num_val=num_val,
        num_pairs=num_pairs,
        seed=seed,
        size=size,
    )
    more = {TUNE: dict(num_tune=num_tune), TEST: dict(num_test=num_test)}
    check_range(
        {**settings, **more[TUNE], **more[TEST]},
        least=dict(
            num_ids=2, num_val=2, num_tune=0, num_test=0, seed=0, size=16
        ),
        most=dict(
            num_ids=len(MINI_FACES_CLASSES),
            num_pairs=num_val * (num_val - 1) // 2,
        ),
    )
    settings['version'] = _VERSION
    root = Path(root)
    classes = MINI_FACES_CLASSES[:num_ids]
    counts = dict(train=num_train, val=num_val, tune=num_tune, test=num_test)

    def make(splits: Sequence[str]) -> None:
        for split in splits:
            number = SPLIT_NUMBERS[split]

            def draw(label: int, number=number, split=split):
                return _draw_identity(
                    [seed, label], number, counts[split], size
                )

            save_class_folders(root, split, classes, draw)
        if 'val' in splits:
            images = {
                name: [f'{name}/{index:03d}.png' for index in range(num_val)]
                for name in classes
            }
            save_pairs(face_pairs(images, num_pairs, seed=seed), root / PAIRS)

    def is_complete(splits: Sequence[str]) -> bool:
        return (root / PAIRS).is_file() and are_listed_files_there(
            root, splits
        )

    return make_splits(root, MARKER, settings, more, is_complete, make)


def _draw_identity(
    seeds: list[int], split: int, count: int, size: int
) -> Iterator[np.ndarray]:
    """All pictures of an identity in a split."""
    appearance = draw_appearance(np.random.RandomState(seeds))
    conditions = [
        draw_conditions(np.random.RandomState([*seeds, split, index]), size)
        for index in range(count)
    ]
    yield from draw_faces(appearance, conditions, size)
