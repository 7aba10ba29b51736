"""Figures of an attack on one model, with what chance does to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

#: Bootstrap samples of an interval.
RESAMPLES = 400


@dataclass(frozen=True)
class Outcome:
    """What an attack finds in one model, in one setting.

    Attributes:
        overall (np.ndarray): The figure, a fraction of 1, and after it the
            same figure on each bootstrap sample; shape (1 + RESAMPLES, ).
            All models that one attack is run on share the samples.
        per_class (dict[str, np.ndarray]): The same by forgotten class; NaN
            where there is nothing to tell it from.
        details (dict): What else there is to say, for ``audit.json``.
    """

    overall: np.ndarray
    per_class: dict[str, np.ndarray]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The figure itself."""
        return float(self.overall[0])

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the bootstrap samples lie in it."""
        low, high = np.nanpercentile(self.overall[1:], [2.5, 97.5])
        return float(low), float(high)

    @classmethod
    def of_rows(
        cls,
        values: Tensor,
        labels: Tensor,
        classes: Mapping[str, int],
        **details: Any,
    ) -> 'Outcome':
        """Mean of a value over objects.

        Args:
            values (Tensor): Shape (N, ).
            labels (Tensor): True class ids of the objects, shape (N, ).
            classes (Mapping[str, int]): Ids of the classes that count.
            **details: See :attr:`Outcome.details`.
        """
        values, labels = values.double().numpy(), labels.numpy()
        counts = resampled_counts(len(values))
        kinds = {name: labels == label for name, label in classes.items()}
        every = np.isin(labels, list(classes.values()))

        def mean(rows: np.ndarray) -> np.ndarray:
            weights = counts[:, rows]
            with np.errstate(invalid='ignore'):
                return weights @ values[rows] / weights.sum(1)

        per_class = {name: mean(rows) for name, rows in kinds.items()}
        return cls(mean(every), per_class, details)

    @classmethod
    def of_classes(
        cls, per_class: Mapping[str, np.ndarray], **details: Any
    ) -> 'Outcome':
        """Mean over classes of a figure of each.

        Args:
            per_class (Mapping[str, np.ndarray]): See the class.
            **details: See :attr:`Outcome.details`.
        """
        known = [v for v in per_class.values() if np.isfinite(v[0])]
        overall = np.full(1 + RESAMPLES, np.nan)
        if known:
            overall = np.nanmean(known, axis=0)
        return cls(overall, dict(per_class), details)


@lru_cache(maxsize=8)
def resampled_counts(number: int) -> np.ndarray:
    """How often each of some objects is in each bootstrap sample.

    Args:
        number (int): Objects, or images.

    Returns:
        np.ndarray: Shape (1 + RESAMPLES, number); the first row is all 1,
        and the rest follows from the number alone. Shared, not to be
        written to.
    """
    samples = np.random.default_rng(0).multinomial(
        number, np.full(number, 1 / max(number, 1)), RESAMPLES
    )
    counts = np.concatenate([np.ones((1, number), int), samples])
    counts.setflags(write=False)
    return counts


def resampled_auc(
    scores: np.ndarray, positive: np.ndarray, counts: Iterable[np.ndarray]
) -> np.ndarray:
    """Area under the ROC curve on bootstrap samples; ties count half.

    Args:
        scores (np.ndarray): Shape (N, ).
        positive (np.ndarray): Whether a row should score high, (N, ).
        counts (Iterable[np.ndarray]): How often it is in each of B samples,
            (N, ) each.

    Returns:
        np.ndarray: Shape (B, ); NaN where one kind is missing.
    """
    _, place = np.unique(scores, return_inverse=True)
    areas = []
    for count in counts:
        high = np.bincount(place, count * positive)
        low = np.bincount(place, count * ~positive)
        pairs = high.sum() * low.sum()
        below = low.cumsum() - low / 2
        areas.append((high * below).sum() / pairs if pairs else np.nan)
    return np.array(areas)


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Mean over several draws, such as seeds; details are of the first."""
    first = outcomes[0]
    return Outcome(
        np.mean([each.overall for each in outcomes], axis=0),
        {
            name: np.mean([each.per_class[name] for each in outcomes], axis=0)
            for name in first.per_class
        },
        first.details,
    )
