"""Accuracy of each split of a forgetting step, in one pass over the data."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from mmengine.logging import MMLogger

from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError
from .splits import SplitMetric, read_splits, score_table


@METRICS.register_module()
class ForgettingAccuracy(SplitMetric):
    """Top-k accuracy over all images, per split and per class.

    A prediction counts as mmpretrain's ``Accuracy`` counts it: the true
    class has one of the k largest scores, and its score is larger than 0 (a
    softmax of large logits leaves exact zeros, between which there is no
    order). The accuracy of a split is that over the *images* of its
    classes, as in the papers, not the mean over classes.

    Metrics (with the prefix ``accuracy/``): ``top{k}`` over all images;
    ``{split}/top{k}`` of each split; ``per_class/{name}``, top-1. Fractions
    of 1, NaN where there are no images.

    Args:
        splits (Mapping): Class names by split name, e.g.
            ``dict(forget=['cat'], retain=['dog', 'car'], old=[])``.
        topk (int | Sequence[int]): Values of k; 1 is always one of them.
            Defaults to (1, 5).
        **kwargs: Arguments of MMEngine's ``BaseMetric``.

    Raises:
        ConfigError: If a split names an unknown class or one twice, or if k
            is not among 1 ... number of classes.
    """

    default_prefix = 'accuracy'

    def __init__(
        self,
        splits: Mapping[str, Sequence[str]],
        topk: int | Sequence[int] = (1, 5),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        values = [topk] if isinstance(topk, int) else list(topk)
        if not all(isinstance(k, int) and k >= 1 for k in values):
            raise ConfigError(
                'val_evaluator.topk',
                topk,
                'must be whole numbers >= 1, such as (1, 5)',
            )
        self.splits = read_splits(splits)
        self.topk = sorted({1, *values})

    def check_classes(self, classes: Sequence[str]) -> None:
        if self.topk[-1] > len(classes):
            raise ConfigError(
                'val_evaluator.topk',
                tuple(self.topk),
                f'there are only {len(classes)} classes',
            )
        super().check_classes(classes)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note label and place of the true class of each image.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): With ``gt_label`` and
                ``pred_score`` (num_classes, ), as mmpretrain's heads
                predict.
        """
        scores = torch.stack([s['pred_score'] for s in data_samples]).float()
        labels = torch.cat([s['gt_label'] for s in data_samples])
        places = true_places(scores, labels.to(scores.device), self.topk[-1])
        self.results.extend(zip(labels.tolist(), places.tolist(), strict=True))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute all figures from the collected results.

        Args:
            results (list): Pairs (label, place) of all images.

        Returns:
            dict: Metric values by name (see the class).
        """
        labels, places = np.array(results, int).reshape(-1, 2).T
        classes = list(self.dataset_meta['classes'])
        label_of = {name: label for label, name in enumerate(classes)}

        keys = [f'top{k}' for k in self.topk]
        metrics, rows = {}, []
        for split, names in {'': classes, **self.splits}.items():
            shown = places[np.isin(labels, [label_of[n] for n in names])]
            found = [accuracy(shown, k) for k in self.topk]
            prefix = f'{split}/' if split else ''
            metrics.update(
                {prefix + key: v for key, v in zip(keys, found, strict=True)}
            )
            rows.append((split or 'all', (len(names), len(shown)), found))
        for name, own in zip(
            classes, _by_label(labels, places, len(classes)), strict=True
        ):
            metrics[f'per_class/{name}'] = accuracy(own, 1)
        table = score_table(['classes', 'images'], keys, rows)
        MMLogger.get_current_instance().info('\n' + table)
        return metrics

    def resampled_scores(
        self, counts: np.ndarray, names: Iterable[str]
    ) -> dict[str, np.ndarray]:
        labels, places = np.array(self.results, int).reshape(-1, 2).T
        classes, scores = self.dataset_meta['classes'], {}
        label_of = {name: label for label, name in enumerate(classes)}
        for name in names:
            label = label_of[name]
            weights = counts[:, labels == label]
            with np.errstate(invalid='ignore'):
                hits = weights @ (places[labels == label] < 1)
                scores[name] = hits / weights.sum(1)
        return scores


def _by_label(
    labels: np.ndarray, values: np.ndarray, count: int
) -> list[np.ndarray]:
    """The values of each label 0 ... count - 1, in their order."""
    order = np.argsort(labels, kind='stable')
    ends = np.searchsorted(labels[order], np.arange(1, count))
    return np.split(values[order], ends)


def true_places(
    scores: torch.Tensor, labels: torch.Tensor, count: int
) -> torch.Tensor:
    """Place of the true class among the largest scores, from 0 on.

    Args:
        scores (Tensor): Shape (n, num_classes).
        labels (Tensor): True classes, shape (n, ).
        count (int): How many places there are.

    Returns:
        Tensor: Shape (n, ); ``count`` where the true class has no place, or
        a score that is not larger than 0.
    """
    best, found = scores.topk(count, dim=1)
    hits = (found == labels[:, None]) & (best > 0)
    return torch.where(hits.any(1), hits.int().argmax(1), count)


def accuracy(places: np.ndarray, k: int) -> float:
    """Share of the images whose true class is among the first k."""
    return float((places < k).mean()) if len(places) else float('nan')
