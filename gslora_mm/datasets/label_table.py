"""Which image of a data set shows which classes."""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import get_local_path

from gslora_mm.utils.errors import ConfigError


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
                'dataset.metainfo.classes: missing; the names are needed to '
                f'say what to forget, and {type(dataset).__name__} has none '
                'of its own'
            )
        _check_order(dataset, classes)
        images, labels, ignored = [], [], []
        for index, info in enumerate(_annotations(dataset)):
            if 'instances' in info:
                found = [
                    (
                        instance['bbox_label'],
                        bool(instance.get('ignore_flag', 0)),
                    )
                    for instance in info['instances']
                ]
            else:
                found = [
                    (label, False)
                    for label in np.atleast_1d(info.get('gt_label', []))
                ]
            for label, ignore in found:
                images.append(index)
                labels.append(int(label))
                ignored.append(ignore)
        if not images:
            raise ConfigError(
                f'dataset: {type(dataset).__name__} of {len(dataset)} images '
                'has no labels (neither `instances` nor `gt_label`)'
            )
        return cls(
            tuple(classes),
            np.array(images),
            np.array(labels),
            np.array(ignored),
        )


def _annotations(dataset: BaseDataset) -> Iterator[dict]:
    """All annotations, without the deep copies of ``get_data_info``."""
    if dataset.serialize_data:
        return map(dataset.get_data_info, range(len(dataset)))
    return iter(dataset.data_list)


def _check_order(dataset: BaseDataset, classes: tuple[str, ...]) -> None:
    """Compare the class names with the annotation file's categories.

    mmdet's CocoDataset numbers labels in the order of the categories in the
    file, whatever the order of ``metainfo.classes``. Where the two differ,
    names would point to the wrong labels: another class would be forgotten.
    """
    if not (getattr(dataset, 'cat_ids', None) and dataset.ann_file):
        return
    with get_local_path(
        dataset.ann_file, backend_args=getattr(dataset, 'backend_args', None)
    ) as path:
        names = {
            category['id']: category.get('name')
            for category in _read_categories(path)
        }
    in_file = [names.get(category_id) for category_id in dataset.cat_ids]
    wrong = [
        name
        for label, name in enumerate(in_file)
        if name in classes and classes.index(name) != label
    ]
    if wrong:
        raise ConfigError(
            f'dataset.metainfo.classes={list(classes)}: labels follow the '
            f'order of the categories in {dataset.ann_file}, where '
            f'{wrong[0]!r} has label {in_file.index(wrong[0])}; write the '
            f'classes in that order: {in_file}'
        )


def _read_categories(path: str) -> list[dict]:
    """The categories of a COCO file, without reading all of it.

    They take a few kilobytes of files of up to half a gigabyte.
    """
    with (
        open(path, 'rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        start = content.find(b'[', max(content.rfind(b'"categories"'), 0))
        excerpt = content[start : start + 2**20].decode(errors='ignore')
    try:
        categories, _ = json.JSONDecoder().raw_decode(excerpt)
        if all(
            'id' in category and 'name' in category for category in categories
        ):
            return categories
    except (ValueError, TypeError):
        pass  # not where expected: read the file as a whole
    with open(path, encoding='utf-8') as file:
        return json.load(file).get('categories', [])
