"""Which image of a data set shows which classes."""

import contextlib
import itertools
import json
import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import get_local_path

from gslora_mm.utils.coco_annotations import lost_objects
from gslora_mm.utils.errors import ConfigError
from .build import parts_of_dataset


@dataclass(frozen=True)
class LabelTable:
    """All objects of a data set, as arrays; made in one pass.

    Reading an annotation of an MMEngine data set unpickles it, so this is
    done once, however many subsets are made of the data.

    Args:
        classes (tuple[str]): Names of the labels 0, 1, ...
        images (np.ndarray): Image index per object, shape (num_objects,),
            ascending.
        labels (np.ndarray): Label per object, shape (num_objects,).
        ignored (np.ndarray): Whether an object is not to be learned (crowd
            regions), shape (num_objects,).
    """

    classes: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray

    @classmethod
    def scan(cls, dataset: BaseDataset) -> 'LabelTable':
        """Read the labels of a data set.

        Args:
            dataset (BaseDataset): For detection (``instances`` with
                ``bbox_label``, as in mmdet) or classification (``gt_label``,
                a number or several, as in mmpretrain).

        Returns:
            LabelTable: Its labels.

        Raises:
            ConfigError: The data set names no classes, names them in an
                order that is not that of its labels, or has no labels.
        """
        dataset.full_init()
        classes = dataset.metainfo.get('classes')
        if not classes:
            raise ConfigError(
                'metainfo.classes',
                valid='missing; the names are needed to say what to forget, '
                f'and {type(dataset).__name__} has none of its own',
            )
        for part in parts_of_dataset(dataset):
            _check_order(part, classes)
        rows = [
            (index, int(label), bool(is_ignored))
            for index, info in enumerate(_annotations(dataset))
            for label, is_ignored in _objects(info)
        ]
        if all(is_ignored for _, _, is_ignored in rows):
            raise _nothing_left(dataset, classes)
        return cls(tuple(classes), *map(np.array, zip(*rows, strict=True)))

    def num_images(self, names: Collection[str]) -> int:
        """Count the images that show an object of some classes.

        Args:
            names (Collection[str]): Names of the classes.
        """
        labels = [i for i, name in enumerate(self.classes) if name in names]
        shown = np.isin(self.labels, labels) & ~self.ignored
        return len(np.unique(self.images[shown]))


def _annotations(dataset: BaseDataset) -> Iterator[dict]:
    """All annotations, without the deep copies of ``get_data_info``."""
    if getattr(dataset, 'share', None) is not None:
        return map(dataset.get_data_info, range(len(dataset)))
    if hasattr(dataset, 'parts'):
        return itertools.chain.from_iterable(map(_annotations, dataset.parts))
    if dataset.serialize_data:
        return map(dataset.get_data_info, range(len(dataset)))
    return iter(dataset.data_list)


def _objects(info: dict) -> Iterator[tuple[int, bool]]:
    """Label of each object of an image, and whether to ignore the object."""
    if 'instances' in info:
        for instance in info['instances']:
            yield instance['bbox_label'], instance.get('ignore_flag', 0)
    else:
        for label in np.atleast_1d(info.get('gt_label', [])):
            yield label, False


def _nothing_left(
    dataset: BaseDataset, classes: tuple[str, ...]
) -> ConfigError:
    """Say why there is no object to learn: counts, and both lists of names."""
    found = f'{type(dataset).__name__} of {len(dataset)} images has no labels'
    reasons = []
    for part in parts_of_dataset(dataset):
        if getattr(part, 'cat_ids', None) is None or not part.ann_file:
            continue  # no COCO file
        with _local_file(part) as path:
            lost = lost_objects(path, part.ann_file, classes)
        reasons.append(f'{part.ann_file}: {lost}')
    if reasons:
        found += ' to learn; ' + '; '.join(reasons)
    else:
        found += ' (neither `instances` nor `gt_label`)'
    return ConfigError('', valid=found)


def _local_file(dataset: BaseDataset) -> contextlib.AbstractContextManager:
    """The annotation file, brought here if it is elsewhere."""
    backend = getattr(dataset, 'backend_args', None)
    return get_local_path(dataset.ann_file, backend_args=backend)


def _check_order(dataset: BaseDataset, classes: tuple[str, ...]) -> None:
    """Compare the class names with the annotation file's categories.

    mmdet's CocoDataset numbers labels in the order of the categories in the
    file, whatever the order of ``metainfo.classes``. Where the two differ,
    names would point to the wrong labels: another class would be forgotten.
    """
    if not (getattr(dataset, 'cat_ids', None) and dataset.ann_file):
        return
    if hasattr(dataset, 'file_order'):
        return  # labels follow the names
    with _local_file(dataset) as path:
        names = _category_names(path)
    in_file = [names.get(category_id) for category_id in dataset.cat_ids]
    for label, name in enumerate(in_file):
        if name in classes and classes.index(name) != label:
            raise ConfigError(
                'metainfo.classes',
                list(classes),
                'labels follow the order of the categories in '
                f'{dataset.ann_file}, where {name!r} has label {label}; '
                f'write the classes in that order: {in_file}',
            )


def _category_names(path: str) -> dict[int, str]:
    """Names of the categories of a COCO file, by id.

    Of a file of up to half a gigabyte only the kilobytes that hold them are
    read, where they are found.
    """
    with (
        open(path, 'rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        start = content.find(b'[', max(content.rfind(b'"categories"'), 0))
        excerpt = content[start : start + 2**20].decode(errors='ignore')
    try:
        categories, _ = json.JSONDecoder().raw_decode(excerpt)
        return {each['id']: each['name'] for each in categories}
    except (ValueError, TypeError, KeyError):
        pass  # not where expected: read the file as a whole
    with open(path, encoding='utf-8') as file:
        categories = json.load(file).get('categories', [])
    return {each['id']: each.get('name') for each in categories}
