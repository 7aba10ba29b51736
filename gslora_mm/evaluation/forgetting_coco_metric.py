"""COCO AP of each split of a forgetting step, in one pass over the data."""

import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from tempfile import TemporaryDirectory

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger

from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.quiet import no_prints
from .coco_scores import (
    COCO_ITEMS,
    average_precision,
    precision_on_own_images,
    resampled_precision,
)
from .splits import SplitMetric, read_splits, score_table


@METRICS.register_module()
class ForgettingCocoMetric(SplitMetric, CocoMetric):
    """COCO AP over all categories, per split and per category, unrounded.

    Detections are matched to the ground truth once; COCO matches within one
    category, so a split's AP is the mean over its categories' precisions and
    equals a separate run of pycocotools with the split's ``catIds``.

    Every figure counts at most 100 detections per image and category, COCO's
    own rule (mmdet counts 1000 for all but mAP), so that the mean of the
    categories is the AP of their split. Without a 100 among
    ``proposal_nums``, it is the largest of these.

    Metrics (with mmdet's prefix ``coco/``): ``bbox_mAP``, ``bbox_mAP_50``,
    ``_75``, ``_s``, ``_m``, ``_l`` over all categories; ``{split}/mAP``, ...
    of each split; ``per_class/{name}``. Fractions of 1; 0 where there are
    objects but no detections, NaN where there is nothing to detect.

    Args:
        splits (Mapping): Category names by split name, e.g.
            ``dict(forget=['cat'], retain=['dog', 'car'], old=[])``.
        only_split_images (bool): Score a split only on the images that show
            one of its categories, as the papers do; detections on all other
            images then count for nothing. The figures over all categories
            and per category stay those of all images. Defaults to False.
        **kwargs: Arguments of mmdet's ``CocoMetric``. With ``classwise`` the
            table in the log lists the categories too.

    Raises:
        ConfigError: If a split names an unknown category or one twice, if
            the annotation file is missing or malformed or lacks a category
            of the dataset, or for a ``metric`` other than 'bbox'.
    """

    def __init__(
        self,
        splits: Mapping[str, Sequence[str]],
        only_split_images: bool = False,
        **kwargs,
    ) -> None:
        metric, ann_file = kwargs.get('metric', 'bbox'), kwargs.get('ann_file')
        if metric not in ('bbox', ['bbox']):
            raise ConfigError(
                'val_evaluator.metric',
                metric,
                "is not supported by ForgettingCocoMetric; valid is 'bbox'",
            )
        # Twice, to tell the file's errors from those of other arguments.
        super().__init__(**{**kwargs, 'ann_file': None})
        try:
            with no_prints():
                super().__init__(**kwargs)
        except FileNotFoundError as error:
            raise ConfigError(
                'val_evaluator.ann_file',
                ann_file,
                'does not exist; it must be a COCO annotation file',
            ) from error
        except (ValueError, AssertionError, KeyError, TypeError) as error:
            raise ConfigError(
                'val_evaluator.ann_file',
                ann_file,
                f'is not a COCO annotation file ({type(error).__name__}: '
                f'{error})',
            ) from error
        self.splits = read_splits(splits)
        self.only_split_images = only_split_images
        if self._coco_api is not None:
            for annotation in self._coco_api.anns.values():
                # CocoDataset does without, pycocotools does not.
                annotation.setdefault('iscrowd', 0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute all figures from the collected results.

        Args:
            results (list): Pairs (ground truth, prediction) of all images,
                as made by mmdet's ``CocoMetric.process``.

        Returns:
            dict: Metric values by name (see the class).
        """
        if self.format_only:
            return super().compute_metrics(results)
        evaluation = self._match(results)
        names = [
            category['name']
            for category in self._coco_api.load_cats(self.cat_ids)
        ]
        metrics, rows = self._collect(evaluation, names)
        table = score_table(['classes'], list(COCO_ITEMS), rows)
        MMLogger.get_current_instance().info('\n' + table)
        return metrics

    def resampled_scores(
        self, counts: np.ndarray, names: Iterable[str]
    ) -> dict[str, np.ndarray]:
        evaluation = self._match(self.results)
        places = {
            truth['img_id']: i for i, (truth, _) in enumerate(self.results)
        }
        counts = counts[:, [places[i] for i in evaluation.params.imgIds]]
        classes = self._coco_api.load_cats(self.cat_ids)
        cat_id_of = {each['name']: each['id'] for each in classes}
        return {
            name: resampled_precision(evaluation, cat_id_of[name], counts)
            for name in names
        }

    def _match(self, results: list) -> COCOeval:
        """Match the predictions of all images to their ground truth."""
        ground_truths = [ground_truth for ground_truth, _ in results]
        predictions = [prediction for _, prediction in results]
        with no_prints():
            self._prepare_ground_truth(ground_truths)
            if self.outfile_prefix is not None and predictions:
                self.results2json(predictions, self.outfile_prefix)
            return self._evaluate(self._load_detections(predictions))

    def check_classes(self, classes: Sequence[str]) -> None:
        """Refuse splits and annotation files that do not fit the classes."""
        super().check_classes(classes)
        if self._coco_api is None:
            return
        annotated = {cat['name'] for cat in self._coco_api.cats.values()}
        absent = [name for name in classes if name not in annotated]
        if absent:
            # mmdet would go on and shift the label of every later category.
            raise ConfigError(
                'val_evaluator.ann_file',
                valid=f'no category {absent[0]!r} ({len(absent)} of '
                f'{len(classes)} classes of the dataset are missing); it '
                'must list all of them',
            )

    def _prepare_ground_truth(self, ground_truths: list[dict]) -> None:
        """Fill what mmdet's metric leaves to the first evaluation."""
        if self._coco_api is None:
            with TemporaryDirectory() as folder:
                self._coco_api = COCO(
                    self.gt_to_coco_json(
                        ground_truths, osp.join(folder, 'results')
                    )
                )
        if self.cat_ids is None:
            # In the annotation file's order: that is how CocoDataset numbers
            # its labels, whatever the order of the dataset's class names.
            self.cat_ids = self._coco_api.get_cat_ids(
                cat_names=self.dataset_meta['classes']
            )
        if self.img_ids is None:
            self.img_ids = self._coco_api.get_img_ids()

    def _load_detections(self, predictions: Iterable[dict]) -> COCO:
        """Detections as a COCO result set, which may be empty."""
        detections = [
            dict(
                image_id=prediction['img_id'],
                category_id=self.cat_ids[label],
                bbox=self.xyxy2xywh(bbox),
                score=float(score),
            )
            for prediction in predictions
            for label, bbox, score in zip(
                prediction['labels'],
                prediction['bboxes'],
                prediction['scores'],
                strict=True,
            )
        ]
        if detections:
            return self._coco_api.loadRes(detections)
        empty = COCO()  # loadRes refuses an empty list
        empty.dataset = dict(self._coco_api.dataset, annotations=[])
        empty.createIndex()
        return empty

    def _evaluate(self, detections: COCO) -> COCOeval:
        """Match and accumulate all categories over all images."""
        make = COCOevalMP if self.use_mp_eval else COCOeval
        evaluation = make(self._coco_api, detections, 'bbox')
        evaluation.params.catIds = sorted(self.cat_ids)
        evaluation.params.imgIds = sorted(self.img_ids)
        # Their order says nothing: (100, 300, 1000) is mmdet's own, and
        # (1, 10, 100) is pycocotools' and in many configs.
        numbers = list(self.proposal_nums)
        evaluation.params.maxDets = [100 if 100 in numbers else max(numbers)]
        evaluation.params.iouThrs = np.asarray(self.iou_thrs)
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation

    def _collect(
        self, evaluation: COCOeval, names: list[str]
    ) -> tuple[dict[str, float], list[tuple]]:
        """All metrics, and the rows of the table in the log."""
        params = evaluation.params
        precision = evaluation.eval['precision']
        cat_id_of = dict(zip(names, self.cat_ids, strict=True))

        def of(members: Sequence[str], own_images: bool) -> dict[str, float]:
            cat_ids = sorted(cat_id_of[name] for name in members)
            if own_images:
                chosen = precision_on_own_images(evaluation, cat_ids)
            else:
                places = np.searchsorted(params.catIds, cat_ids)
                chosen = precision[:, :, places]
            return average_precision(chosen, params)

        overall = of(names, False)
        splits = {
            split: of(members, self.only_split_images)
            for split, members in self.splits.items()
        }
        categories = {name: of([name], False) for name in names}
        metrics = {f'bbox_{key}': ap for key, ap in overall.items()}
        for split, items in splits.items():
            metrics.update({f'{split}/{key}': ap for key, ap in items.items()})
        for name, items in categories.items():
            metrics[f'per_class/{name}'] = items['mAP']

        rows = [('all', (len(names),), list(overall.values()))]
        for split, items in splits.items():
            count = len(self.splits[split])
            rows.append((split, (count,), list(items.values())))
        if self.classwise:
            rows += [
                (name, (1,), list(items.values()))
                for name, items in categories.items()
            ]
        return metrics, rows
