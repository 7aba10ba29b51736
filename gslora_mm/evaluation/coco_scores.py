"""From pycocotools' precisions to the figures of a split."""

import copy
from collections.abc import Sequence

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from gslora_mm.utils.quiet import no_prints

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
    evaluation: COCOeval, cat_ids: Sequence[int]
) -> np.ndarray:
    """Precision of some categories on the images that show one of them.

    The matches are those of ``evaluation``; only the accumulation over images
    is repeated. (``COCOeval.accumulate(p)`` cannot do that: it looks up the
    positions of ``p`` in a list laid out for all categories and images.)

    Args:
        evaluation (COCOeval): Evaluated on all categories and images.
        cat_ids (Sequence[int]): Categories, a sorted part of the evaluated.

    Returns:
        np.ndarray: As ``COCOeval.eval['precision']`` of a run with these
        ``catIds`` and ``imgIds``.
    """
    params = evaluation.params
    shown = set().union(*(evaluation.cocoGt.catToImgs[i] for i in cat_ids))
    part = copy.copy(evaluation)
    part.params = copy.copy(params)
    part.params.catIds = list(cat_ids)
    part.params.imgIds = [i for i in params.imgIds if i in shown]

    matches = np.empty(len(evaluation.evalImgs), dtype=object)
    matches[:] = evaluation.evalImgs
    matches = matches.reshape(
        len(params.catIds), len(params.areaRng), len(params.imgIds)
    )
    matches = matches[np.isin(params.catIds, cat_ids)]
    part.evalImgs = matches[:, :, np.isin(params.imgIds, list(shown))].ravel()
    part.evalImgs = part.evalImgs.tolist()
    part._paramsEval = part.params
    with no_prints():
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
    params = evaluation.params
    number = len(params.imgIds)
    place = list(params.catIds).index(cat_id) * len(params.areaRng)
    place += params.areaRngLbl.index('all')
    by_image = evaluation.evalImgs[place * number : (place + 1) * number]
    known = [i for i, found in enumerate(by_image) if found]
    found = [by_image[i] for i in known]
    if not found:
        return np.full(len(counts), np.nan)
    objects = np.array([np.sum(each['gtIgnore'] == 0) for each in found])
    scores = np.concatenate([each['dtScores'] for each in found])
    order = np.argsort(-scores, kind='mergesort')
    hits, ignored = (
        np.concatenate([each[key] for each in found], 1).astype(bool)[:, order]
        for key in ('dtMatches', 'dtIgnore')
    )
    image = np.repeat(known, [len(each['dtScores']) for each in found])[order]
    total = counts[:, known] @ objects
    averages = []
    for weights, positives in zip(counts[:, image], total, strict=True):
        if not positives:
            averages.append(np.nan)
            continue
        right = (weights * (hits & ~ignored)).cumsum(1)
        wrong = (weights * (~hits & ~ignored)).cumsum(1)
        precision = right / np.maximum(right + wrong, np.spacing(1))
        # The best precision at this recall or a higher one.
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        recall = right / positives
        averages.append(
            np.mean(
                [
                    _interpolated(*curve, params.recThrs)
                    for curve in zip(recall, precision, strict=True)
                ]
            )
        )
    return np.array(averages)


def _interpolated(
    recall: np.ndarray, precision: np.ndarray, thresholds: np.ndarray
) -> float:
    """Mean precision at recalls, 0 beyond the highest one reached."""
    places = np.searchsorted(recall, thresholds)
    reached = places < len(precision)
    return precision[places[reached]].sum() / len(thresholds)
