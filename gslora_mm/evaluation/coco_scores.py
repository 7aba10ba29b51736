"""From pycocotools' precisions to the figures of a split."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

# Names of mmdet's CocoMetric: (IoU threshold or None for all, area range).
COCO_ITEMS = {
    'mAP': (None, 'all'),
    'mAP_50': (0.5, 'all'),
    'mAP_75': (0.75, 'all'),
    'mAP_s': (None, 'small'),
    'mAP_m': (None, 'medium'),
    'mAP_l': (None, 'large'),
}


def average_precision(
    precision: np.ndarray, params: Params
) -> dict[str, float]:
    """COCO's summary of a precision array.

    Args:
        precision (np.ndarray): Shape (IoU thresholds, recalls, categories,
            areas, 1); -1 where a category has no ground truth.
        params (Params): Of the evaluation.

    Returns:
        dict: AP by the names of ``COCO_ITEMS``; NaN without ground truth.
    """
    averages = {}
    for key, (iou, area) in COCO_ITEMS.items():
        values = precision[:, :, :, params.areaRngLbl.index(area), 0]
        if iou is not None:
            values = values[np.isclose(params.iouThrs, iou)]
        values = values[values > -1]
        averages[key] = float(values.mean()) if values.size else float('nan')
    return averages


def precision_on_own_images(
    evaluation: COCOeval, cat_ids: Sequence[int], matches: dict
) -> np.ndarray:
    """Precision of some categories on the images that show one of them.

    The matches are those of ``evaluation``; only the accumulation over images
    is repeated. (``COCOeval.accumulate(p)`` cannot do that: it looks up the
    positions of ``p`` in a list laid out for all categories and images.)

    Args:
        evaluation (COCOeval): Evaluated on all categories and images.
        cat_ids (Sequence[int]): Categories, a sorted part of the evaluated.
        matches (dict): Holds what has been gathered for other categories.

    Returns:
        np.ndarray: As ``COCOeval.eval['precision']`` of a run with these
        ``catIds`` and ``imgIds``.
    """
    params = evaluation.params
    shown = set().union(*(evaluation.cocoGt.catToImgs[i] for i in cat_ids))
    is_shown = np.array([i in shown for i in params.imgIds], bool)
    if hasattr(evaluation, '_evalImgs_cpp'):  # faster-coco-eval
        return _accumulated_by_package(evaluation, cat_ids, is_shown)
    shape = len(params.recThrs), len(cat_ids), len(params.areaRng), 1
    out = np.full((len(params.iouThrs), *shape), -1.0)
    for k, cat_id in enumerate(cat_ids):
        for a, area in enumerate(params.areaRngLbl):
            if (cat_id, area) not in matches:
                matches[cat_id, area] = Matches.of(evaluation, cat_id, area)
            found = matches[cat_id, area]
            positives = found.objects[is_shown].sum()
            if positives:
                out[:, :, k, a, 0] = found.precision(
                    is_shown[found.images], positives, params.recThrs
                )
    return out


def _accumulated_by_package(
    evaluation: COCOeval, cat_ids: Sequence[int], is_shown: np.ndarray
) -> np.ndarray:
    """Let faster-coco-eval go through its matches of some images again."""
    params = evaluation.params
    part = copy.copy(evaluation)
    part.params = copy.copy(params)
    part.params.catIds = list(cat_ids)
    part.params.imgIds = np.array(params.imgIds)[is_shown].tolist()
    part._paramsEval = part.params
    matches = np.empty(len(evaluation._evalImgs_cpp), dtype=object)
    matches[:] = evaluation._evalImgs_cpp
    matches = matches.reshape(
        len(params.catIds), len(params.areaRng), len(params.imgIds)
    )
    matches = matches[np.isin(params.catIds, cat_ids)][:, :, is_shown]
    part._evalImgs_cpp = matches.ravel().tolist()
    part.accumulate()
    return part.eval['precision']


def resampled_precision(
    evaluation: COCOeval, cat_id: int, counts: np.ndarray
) -> np.ndarray:
    """AP of a category when images count several times, or not at all.

    As ``COCOeval.accumulate`` has it for ground truth and detections that
    are repeated, but for the order of equal scores.

    Args:
        evaluation (COCOeval): Evaluated, all areas first.
        cat_id (int): The category.
        counts (np.ndarray): Of the images of the evaluation, (B, images).

    Returns:
        np.ndarray: Shape (B, ), NaN without ground truth.
    """
    thresholds = evaluation.params.recThrs
    found = Matches.of(evaluation, cat_id, 'all')
    total = counts @ found.objects
    return np.array(
        [
            found.precision(weights, positives, thresholds).mean()
            if positives
            else np.nan
            for weights, positives in zip(
                counts[:, found.images], total, strict=True
            )
        ]
    )


@dataclass(frozen=True)
class Matches:
    """What an evaluation has matched, of one category and range of areas.

    Detections and objects to be ignored count neither way.

    Attributes:
        objects (np.ndarray): Ground truth of each image, (images, ).
        images (np.ndarray): Position of the image of each detection,
            (detections, ), the highest score first.
        right (np.ndarray): Whether it is one, (IoU thresholds, detections).
        wrong (np.ndarray): Whether it is none.
    """

    objects: np.ndarray
    images: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    @classmethod
    def of(cls, evaluation: COCOeval, cat_id: int, area: str) -> 'Matches':
        """Gather what ``COCOeval.evaluate`` has found."""
        params = evaluation.params
        number = len(params.imgIds)
        place = list(params.catIds).index(cat_id) * len(params.areaRng)
        place += params.areaRngLbl.index(area)
        by_image = evaluation.evalImgs[place * number : (place + 1) * number]
        known = [i for i, found in enumerate(by_image) if found]
        found = [by_image[i] for i in known]
        objects = np.zeros(number, int)
        objects[known] = [np.sum(e['gtIgnore'] == 0) for e in found]
        none = np.zeros((len(params.iouThrs), 0))
        scores = np.concatenate([none[0], *(e['dtScores'] for e in found)])
        order = np.argsort(-scores, kind='mergesort')
        hits, ignored = (
            np.concatenate([none, *(e[key] for e in found)], 1)[:, order] != 0
            for key in ('dtMatches', 'dtIgnore')
        )
        images = np.repeat(known, [len(e['dtScores']) for e in found])
        images = images.astype(int)[order]
        return cls(objects, images, hits & ~ignored, ~hits & ~ignored)

    def precision(
        self, weights: np.ndarray, positives: int, thresholds: np.ndarray
    ) -> np.ndarray:
        """Precision at recalls, as ``COCOeval.accumulate`` has it.

        Args:
            weights (np.ndarray): How often each detection counts.
            positives (int): Objects, counted alike.
            thresholds (np.ndarray): The recalls.

        Returns:
            np.ndarray: Shape (IoU thresholds, recalls), 0 beyond the highest
            recall that is reached.
        """
        right = (weights * self.right).cumsum(1)
        wrong = (weights * self.wrong).cumsum(1)
        precision = right / (right + wrong + np.spacing(1))
        # The best precision at this recall or a higher one.
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        recall = right / positives
        out = np.zeros((len(recall), len(thresholds)))
        for row, reached, values in zip(out, recall, precision, strict=True):
            places = np.searchsorted(reached, thresholds)
            is_reached = places < len(values)
            row[is_reached] = values[places[is_reached]]
        return out
