"""COCO AP of each split of a forgetting step, in one pass over the data."""

import functools
import importlib.util
import os.path as osp
from collections.abc import Callable, Iterable, Mapping, Sequence
from tempfile import TemporaryDirectory

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric
from mmengine.dataset import BaseDataset
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger
from pycocotools import mask
from pycocotools.cocoeval import Params

from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError, config_path
from gslora_mm.utils.coco_annotations import (
    ids_by_name,
    joined,
    put_in_order,
    read_annotations,
)
from gslora_mm.utils.garbage import no_search_for_garbage
from gslora_mm.utils.quiet import no_prints
from gslora_mm.utils.sharing import shared
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
        by_name (bool): Labels are positions in the classes of the dataset;
            otherwise, as in mmdet, among those of the annotation file, in
            its order. Defaults to False.
        faster (bool): Let the package faster-coco-eval match, as mmdet's
            ``FasterCocoMetric`` does; the figures are the same. Image ids
            that are no integers are left to pycocotools. Defaults to False.
        **kwargs: Arguments of mmdet's ``CocoMetric``; ``ann_file`` may be a
            list. With ``classwise`` the table in the log lists the
            categories too.

    Raises:
        ConfigError: If a split names an unknown category or one twice, if
            the annotation file is missing or malformed or lacks a category
            of the dataset, for a ``metric`` other than 'bbox', or without
            the package that ``faster`` needs.
    """

    def __init__(
        self,
        splits: Mapping[str, Sequence[str]],
        only_split_images: bool = False,
        by_name: bool = False,
        ann_file: str | Sequence[str] | None = None,
        faster: bool = False,
        **kwargs,
    ) -> None:
        metric = kwargs.get('metric', 'bbox')
        if metric not in ('bbox', ['bbox']):
            raise ConfigError(
                'val_evaluator.metric',
                metric,
                "is not supported by ForgettingCocoMetric; valid is 'bbox'",
            )
        if faster and not importlib.util.find_spec('faster_coco_eval'):
            raise ConfigError(
                'val_evaluator.type',
                'FasterCocoMetric',
                'needs a package that is not installed; run pip install '
                "faster-coco-eval, or use 'CocoMetric': its figures are the "
                'same',
            )
        super().__init__(**kwargs)
        self.faster = faster
        self.splits = read_splits(splits)
        self.only_split_images = only_split_images
        self.by_name = by_name
        files = [ann_file] if isinstance(ann_file, str) else ann_file or []
        self.ann_file = ', '.join(files)
        if files:
            self._coco_api = shared(
                files, 'COCO', functools.partial(self._read, files)
            )

    def _read(self, files: Sequence[str]) -> COCO:
        """Read the ground truth; pycocotools only adds to it."""
        contents = []
        with config_path('val_evaluator'):
            for file in files:
                try:
                    with get_local_path(
                        file, backend_args=self.backend_args
                    ) as path:
                        contents.append(read_annotations(path, file)[0])
                except FileNotFoundError as error:
                    raise ConfigError(
                        'ann_file',
                        file,
                        'does not exist; it must be a COCO annotation file',
                    ) from error
            content = contents[0]
            if contents[1:]:
                content = joined(contents)
                put_in_order(content, self.ann_file)
        coco = COCO()
        coco.dataset = content
        with no_prints(), no_search_for_garbage():
            coco.createIndex()
        return coco

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
        evaluation = self._match(results, self._evaluator())
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
        names = list(names)
        evaluation = self._match(self.results, COCOeval, names)
        places = {
            truth['img_id']: i for i, (truth, _) in enumerate(self.results)
        }
        counts = counts[:, [places[i] for i in evaluation.params.imgIds]]
        cat_id_of = self._ids_by_name()
        return {
            name: resampled_precision(evaluation, cat_id_of[name], counts)
            for name in names
        }

    def _ids_by_name(self) -> dict[str, int]:
        """Ids of the categories, in the order of the labels."""
        classes = self._coco_api.load_cats(self.cat_ids)
        return {each['name']: each['id'] for each in classes}

    def _evaluator(self) -> Callable[..., COCOeval]:
        """What matches."""
        if self.faster:
            from faster_coco_eval import COCOeval_faster

            return functools.partial(
                COCOeval_faster, separate_eval=self.only_split_images
            )
        return COCOevalMP if self.use_mp_eval else COCOeval

    def _match(
        self,
        results: list,
        make: Callable[..., COCOeval],
        names: Sequence[str] | None = None,
    ) -> COCOeval:
        """Match the predictions of all images to their ground truth.

        Of some categories alone, and objects of any size, where these are
        named: COCO matches within a category.
        """
        ground_truths = [ground_truth for ground_truth, _ in results]
        predictions = [prediction for _, prediction in results]
        with no_prints():
            self._prepare_ground_truth(ground_truths)
            if self.outfile_prefix is not None and predictions:
                self.results2json(predictions, self.outfile_prefix)
            detections = self._load_detections(predictions)
            if not all(isinstance(each, int) for each in self.img_ids):
                make = COCOeval
            evaluation = make(self._coco_api, detections, 'bbox')
            self._set_params(evaluation.params)
            if names is not None:
                params, cat_id_of = evaluation.params, self._ids_by_name()
                params.catIds = sorted(cat_id_of[name] for name in names)
                params.areaRng, params.areaRngLbl = (
                    [each[0]] for each in (params.areaRng, params.areaRngLbl)
                )
            evaluation.evaluate()
            if names is None:
                evaluation.accumulate()
            return evaluation

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
                'must list all of them: add those without an object to its '
                "'categories'",
            )

    def check_dataset(self, dataset: BaseDataset) -> None:
        """Refuse images that the annotation file takes for others.

        Args:
            dataset (BaseDataset): What will be evaluated.

        Raises:
            ConfigError: If an image of the dataset is not in the file, or
                has another name there.
        """
        if self._coco_api is None:
            self._check_instances(dataset)
            return
        names = {
            image_id: _stem(image['file_name'])
            for image_id, image in self._coco_api.imgs.items()
        }
        absent, renamed, seen = [], [], set()
        is_alike: list[bool] = []  # of images with objects on both sides
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            image_id, name = info['img_id'], _stem(info['img_path'])
            if image_id not in names or image_id in seen:
                absent.append(image_id)
                continue
            seen.add(image_id)
            if names[image_id] != name:
                renamed.append((image_id, name))
            own = [each['bbox'] for each in info.get('instances', ())]
            others = [e['bbox'] for e in self._coco_api.imgToAnns[image_id]]
            if own and others:
                own = [self.xyxy2xywh(np.asarray(box, float)) for box in own]
                overlaps = mask.iou(own, others, [0] * len(others))
                is_alike.append(bool(overlaps.max() > 0.5))
        found = ''
        if absent:
            found = (
                f'{len(absent)} of {len(dataset)} images of val_dataloader '
                'are not in it, or have the id of another one, such as '
                f'{absent[0]!r}'
            )
        elif renamed:
            (image_id, name), *_ = renamed
            found = (
                f'{len(renamed)} of {len(dataset)} images of val_dataloader '
                f'have another name there, such as {image_id!r}, which is '
                f'{name!r} and not {names[image_id]!r}'
            )
        # By chance, some boxes of other images are where own ones are.
        elif 2 * sum(is_alike) < len(is_alike):
            found = (
                f'{len(is_alike) - sum(is_alike)} of {len(is_alike)} images '
                'of val_dataloader have their objects elsewhere in it'
            )
        if found:
            parts = getattr(dataset, 'parts', [dataset])
            files = [str(getattr(part, 'ann_file', '')) for part in parts]
            raise ConfigError(
                'val_evaluator.ann_file',
                self.ann_file,
                f'{found}; it must be the file of val_dataloader.dataset: '
                f'{files if files[1:] else repr(files[0])}',
            )

    @staticmethod
    def _check_instances(dataset: BaseDataset) -> None:
        """Refuse data that brings no ground truth of its own."""
        sample = dataset[0]['data_samples']
        if 'instances' not in sample.metainfo_keys():
            raise ConfigError(
                'val_evaluator.ann_file',
                None,
                'must be a COCO annotation file; or else the data brings the '
                "ground truth: meta_keys=(..., 'instances') of PackDetInputs "
                'in val_dataloader.dataset.pipeline',
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
            # In the annotation file's order, mmdet's CocoDataset numbers its
            # labels, whatever the order of the dataset's class names.
            classes = self.dataset_meta['classes']
            content, names = self._coco_api.dataset, set(classes)
            self.cat_ids = (
                ids_by_name(content, classes, self.ann_file)
                if self.by_name
                else [
                    each['id']
                    for each in content['categories']
                    if each['name'] in names
                ]
            )
        if self.img_ids is None:
            # A file with more images than are evaluated is no miss.
            self.img_ids = [each['img_id'] for each in ground_truths]

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

    def _set_params(self, params: Params) -> None:
        """All categories over all images."""
        params.catIds = sorted(self.cat_ids)
        params.imgIds = sorted(self.img_ids)
        # Their order says nothing: (100, 300, 1000) is mmdet's own, and
        # (1, 10, 100) is pycocotools' and in many configs.
        numbers = list(self.proposal_nums)
        params.maxDets = [100 if 100 in numbers else max(numbers)]
        params.iouThrs = np.asarray(self.iou_thrs)

    def _collect(
        self, evaluation: COCOeval, names: list[str]
    ) -> tuple[dict[str, float], list[tuple]]:
        """All metrics, and the rows of the table in the log."""
        params = evaluation.params
        precision = evaluation.eval['precision']
        cat_id_of = dict(zip(names, self.cat_ids, strict=True))
        matches: dict = {}

        def of(members: Sequence[str], own_images: bool) -> dict[str, float]:
            cat_ids = sorted(cat_id_of[name] for name in members)
            if own_images:
                chosen = precision_on_own_images(
                    evaluation, cat_ids, matches
                )
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


def _stem(path: str) -> str:
    """Name of a file, without folders and the kind of image that it is."""
    return osp.splitext(osp.basename(path))[0]
