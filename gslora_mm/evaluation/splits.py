"""Splits: classes by what becomes of them."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from gslora_mm.utils import ConfigError, unknown_name
from gslora_mm.utils.tables import markdown_table

#: Letter of each split in names of scores, such as AP_f.
LETTERS = dict(forget='f', retain='r', old='o', missing='m', learned='l')


class SplitMetric(BaseMetric):
    """A metric that scores splits of the classes apart.

    Attributes:
        splits (dict[str, list[str]]): Class names by split name.
    """

    splits: dict[str, list[str]]

    def resampled_scores(
        self, counts: np.ndarray, names: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """Headline score of classes on other choices of the images.

        Args:
            counts (np.ndarray): How often each of the images seen so far
                counts, in their order; shape (B, images).
            names (Iterable[str]): The classes.

        Returns:
            dict[str, np.ndarray]: Fractions of 1 by class name, shape (B, );
            NaN where there is nothing to score.

        Raises:
            NotImplementedError: If the metric has no score of a class.
        """
        raise NotImplementedError(f'{type(self).__name__} scores no classes')

    @property
    def dataset_meta(self) -> dict | None:
        """dict, optional: Meta information of the dataset.

        Set before the first image is seen, so that a wrong class name costs
        no time.
        """
        return super().dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        if dataset_meta is not None:
            self.check_classes(dataset_meta['classes'])
        BaseMetric.dataset_meta.fset(self, dataset_meta)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Refuse splits with a class that the dataset does not have.

        Args:
            classes (Sequence[str]): Class names of the dataset.

        Raises:
            ConfigError: With the nearest names.
        """
        known = set(classes)
        for split, names in self.splits.items():
            for name in names:
                if name not in known:
                    raise unknown_name(
                        f'val_evaluator.splits.{split}', name, classes
                    )


def read_splits(splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Class names by split name, as lists.

    Args:
        splits (Mapping): As in the config of a metric.

    Raises:
        ConfigError: If a split is no list, or names a class twice.
    """
    for split, names in splits.items():
        if isinstance(names, str) or len(set(names)) < len(names):
            raise ConfigError(
                f'val_evaluator.splits.{split}',
                names,
                'must be a list of different class names',
            )
    return {split: list(names) for split, names in splits.items()}


def score_table(
    counts: Sequence[str],
    scores: Sequence[str],
    rows: Sequence[tuple[str, Sequence[int], Sequence[float]]],
) -> str:
    """The figures in percent, one line a split, as a Markdown table.

    Args:
        counts (Sequence[str]): Titles of the counts, such as
            ``['classes', 'images']``.
        scores (Sequence[str]): Titles of the scores.
        rows (Sequence[tuple]): Name of a split, counts and scores, which
            are fractions of 1; NaN is shown as ``-``.
    """
    cells = [
        [
            name,
            *map(str, numbers),
            *('-' if math.isnan(v) else f'{v:.1%}' for v in values),
        ]
        for name, numbers, values in rows
    ]
    return markdown_table(['split', *counts, *scores], cells)
