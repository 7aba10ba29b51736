"""Which image of a data set shows which classes."""

import contextlib
import functools
import json
import mmap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import get_local_path

from gslora_mm.utils.coco_annotations import lost_objects
from gslora_mm.utils.errors import ConfigError
from .build import parts_of_dataset


class Objects(NamedTuple):
    """Objects of a data set in the order of its images, one a row.

    Attributes:
        images (np.ndarray): Image index, shape (num_objects,), ascending.
        labels (np.ndarray): Label, shape (num_objects,).
        ignored (np.ndarray): Whether an object is not to be learned (crowd
            regions), shape (num_objects,).
    """

    images: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray


def first_places(names: Sequence[str]) -> dict[str, int]:
    """Position of each name, the first if it is there several times."""
    return {names[i]: i for i in reversed(range(len(names)))}


def objects_of(infos: Iterable[dict]) -> Objects:
    """Collect the objects of annotations as a data set gives them.

    Args:
        infos (Iterable[dict]): For detection (``instances`` with
            ``bbox_label``, as in mmdet) or classification (``gt_label``, a
            number or several, as in mmpretrain).
    """
    images, labels, ignored = [], [], []
    for index, info in enumerate(infos):
        found = list(_objects(info))
        images += [index] * len(found)
        labels += [label for label, _ in found]
        ignored += [flag for _, flag in found]
    return Objects(
        np.array(images, int), np.array(labels, int), np.array(ignored, bool)
    )


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
        objects = _scan(dataset)
        if objects.ignored.all():
            raise _nothing_left(dataset, classes)
        return cls(tuple(classes), *objects)

    @functools.cached_property
    def label_of(self) -> dict[str, int]:
        """Label by class name; the first of several with one name."""
        return first_places(self.classes)

    def num_images(self, names: Collection[str]) -> int:
        """Count the images that show an object of some classes.

        Args:
            names (Collection[str]): Names of the classes.
        """
        names = set(names)
        labels = [i for i, name in enumerate(self.classes) if name in names]
        shown = np.isin(self.labels, labels) & ~self.ignored
        return len(np.unique(self.images[shown]))


def _scan(dataset: BaseDataset) -> Objects:
    """All objects, without the deep copies of ``get_data_info``."""
    if getattr(dataset, 'share', None) is not None:
        return objects_of(map(dataset.get_data_info, range(len(dataset))))
    if hasattr(dataset, 'parts'):
        found = list(map(_scan, dataset.parts))
        starts = np.cumsum([0, *map(len, dataset.parts)])
        images, labels, ignored = map(
            np.concatenate, zip(*found, strict=True)
        )
        images += np.repeat(starts[:-1], [len(o.images) for o in found])
        return Objects(images, labels, ignored)
    if not dataset.serialize_data:
        return objects_of(dataset.data_list)
    if getattr(dataset, 'objects', None) is not None:
        return dataset.objects
    return objects_of(map(dataset.get_data_info, range(len(dataset))))


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
    label_of = first_places(classes)
    for label, name in enumerate(in_file):
        if label_of.get(name, label) != label:
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
