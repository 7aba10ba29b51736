"""``mini_digits``: a classification data set that needs no download.

Pictures of scikit-learn's 1,797 real handwritten digits in class folders, for
demos and tests. They are made in seconds and depend on nothing but their
settings.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .digit_scenes import CLASSES, digit_scans, draw_digit
from .generated import (
    SPLIT_NUMBERS,
    TEST,
    TUNE,
    are_listed_files_there,
    check_range,
    make_splits,
    save_class_folders,
)

MINI_DIGITS_CLASSES = CLASSES
MARKER = 'mini_digits.json'
_VERSION = 1  # of the way digits are drawn: part of the settings


def make_mini_digits(
    root: str | Path,
    train_copies: int = 4,
    val_copies: int = 2,
    max_scans: int | None = None,
    seed: int = 0,
    size: int = 32,
    tune_copies: int = 1,
    test_copies: int = 2,
) -> Path:
    """Make the data set, or return at once where it is already complete.

    Each scan of a digit is drawn several times: elsewhere, in another size,
    on another background, in other colours. No scan is used both for training
    (1,438 of them) and for validation (359); the pictures to choose settings
    on, ``tune``, are new ones of the training scans, those to compare methods
    on, ``test``, new ones of the validation scans. A picture depends on
    ``seed``, ``size``, its scan and the number of its copy alone, so that a
    smaller set has pictures of a larger one.

    Args:
        root (str | Path): Folder to make, with
            ``{train,val,tune,test}/zero/000.png`` and so on, and the lists
            of files and labels ``{train,val,tune,test}.txt``.
        train_copies (int): Pictures of a training scan. Defaults to 4.
        val_copies (int): Pictures of a validation scan. Defaults to 2.
        max_scans (int, optional): Most scans of a class and split to use.
            Defaults to None, all of them.
        seed (int): Seed of everything that is drawn. Defaults to 0.
        size (int): Height and width in pixels, at least 16. Defaults to 32.
        tune_copies (int): Pictures of a training scan to choose settings on;
            with 0 there is no such split. Defaults to 1.
        test_copies (int): Pictures of a validation scan to compare methods
            on; with 0 there is no such split. Defaults to 2.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: A setting is out of range, or ``root`` holds files that
            are not of a mini_digits.
    """
    settings = dict(
        train_copies=train_copies, val_copies=val_copies, seed=seed, size=size
    )
    if max_scans is not None:
        settings['max_scans'] = max_scans
    more = {
        TUNE: dict(tune_copies=tune_copies),
        TEST: dict(test_copies=test_copies),
    }
    check_range(
        {**settings, **more[TUNE], **more[TEST]},
        dict(tune_copies=0, test_copies=0, seed=0, size=16),
    )
    settings['version'] = _VERSION
    root = Path(root)
    copies = dict(
        train=train_copies,
        val=val_copies,
        tune=tune_copies,
        test=test_copies,
    )

    def make(splits: Sequence[str]) -> None:
        scans = digit_scans(seed)
        scans[TUNE], scans[TEST] = scans['train'], scans['val']
        for split in splits:
            number = SPLIT_NUMBERS[split]

            def draw(label: int, number=number, split=split):
                return _draw_class(
                    scans[split][label][:max_scans],
                    copies[split],
                    size,
                    [seed, number, label],
                )

            save_class_folders(root, split, MINI_DIGITS_CLASSES, draw)

    def is_complete(splits: Sequence[str]) -> bool:
        return are_listed_files_there(root, splits)

    return make_splits(root, MARKER, settings, more, is_complete, make)


def _draw_class(
    scans: np.ndarray, copies: int, size: int, seeds: list[int]
) -> Iterator[np.ndarray]:
    for copy in range(copies):
        for index, scan in enumerate(scans):
            rng = np.random.RandomState([*seeds, copy, index])
            yield draw_digit(rng, scan, size)
