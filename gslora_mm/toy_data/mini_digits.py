"""``mini_digits``: a classification data set that needs no download.

Pictures of scikit-learn's 1,797 real handwritten digits in class folders, for
demos and tests. They are made in seconds and depend on nothing but their
settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from .digit_scenes import CLASSES, draw_digit, scans_of
from .toy_dataset import PORTIONS, ClassFolders, setting

MINI_DIGITS_CLASSES = CLASSES


@dataclass(frozen=True, kw_only=True)
class MiniDigits(ClassFolders):
    """Settings of ``mini_digits``.

    Each scan of a digit is drawn several times: elsewhere, in another size,
    on another background, in other colours. No scan is used both for training
    (1,438 of them) and for validation (359); the pictures to choose settings
    on, ``tune``, are new ones of the training scans, those to compare methods
    on, ``test``, new ones of the validation scans. A picture depends on
    ``seed``, ``size``, its scan and the number of its copy alone, so that a
    smaller set has pictures of a larger one.
    """

    name: ClassVar[str] = 'mini_digits'
    version: ClassVar[int] = 1
    amount_name: ClassVar[str] = '{}_copies'
    classes: ClassVar[tuple[str, ...]] = MINI_DIGITS_CLASSES

    train_copies: int = setting(4, 'pictures of a training scan')
    val_copies: int = setting(2, 'pictures of a validation scan')
    tune_copies: int = setting(
        1, 'pictures of a training scan to choose settings on', least=0
    )
    test_copies: int = setting(
        2, 'pictures of a validation scan to compare methods on', least=0
    )
    seed: int = setting(0, 'seed of the pictures', least=0)
    size: int = setting(32, 'height and width in px', least=16)
    max_scans: int | None = setting(None, 'most scans of a class and portion')

    def pictures(self, portion: str, label: int) -> Iterator[np.ndarray]:
        """Draw all scans of a class, then all of them again, and so on."""
        scans = scans_of(portion, self.seed)[label][: self.max_scans]
        seeds = [self.seed, PORTIONS[portion], label]
        for copy in range(self.amount(portion)):
            for index, scan in enumerate(scans):
                rng = np.random.RandomState([*seeds, copy, index])
                yield draw_digit(rng, scan, self.size)


def make_mini_digits(root: str | Path, **settings: int | None) -> Path:
    """Make the data set, or return at once where it is already complete.

    Args:
        root (str | Path): Folder to make.
        **settings (int, optional): See :class:`MiniDigits`.

    Returns:
        Path: ``root``.

    Raises:
        ConfigError: A setting is out of range, or ``root`` holds files that
            are not of a mini_digits.
    """
    return MiniDigits(**settings).make(root)
