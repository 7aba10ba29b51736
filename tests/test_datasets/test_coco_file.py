import json

import pytest
from mmdet.datasets import CocoDataset

from gslora_mm.datasets import build_dataset
from gslora_mm.utils import ConfigError

CLASSES = ('cat', 'dog', 'fox')


def write(path, categories, **annotation):
    """An image of 99 x 99 pixels for each category, with one object each."""
    content = dict(
        images=[
            dict(id=n, file_name=f'{n}.png', width=99, height=99)
            for n in range(1, 1 + len(categories))
        ],
        annotations=[
            dict(
                id=n,
                image_id=n,
                category_id=category['id'],
                bbox=[10, 10, 8, 8],
                **annotation,
            )
            for n, category in enumerate(categories, 1)
        ],
        categories=categories,
    )
    path.write_text(json.dumps(content))
    return path


def labels_of(path, kind='gslora_mm.NamedCocoDataset', classes=CLASSES):
    dataset = build_dataset(
        dict(
            type=kind,
            ann_file=str(path),
            metainfo=dict(classes=classes),
            data_prefix=dict(img=''),
            pipeline=[],
        )
    )
    labels = [
        each['bbox_label']
        for index in range(len(dataset))
        for each in dataset.get_data_info(index)['instances']
    ]
    return labels, dataset


def categories(*names):
    return [dict(id=n, name=name) for n, name in enumerate(names, 7)]


def test_a_file_with_the_classes_in_order_is_read_as_by_mmdet(tmp_path):
    path = write(tmp_path / 'a.json', categories(*CLASSES), area=64, iscrowd=0)
    found, dataset = labels_of(path)
    expected, stock = labels_of(path, 'mmdet.CocoDataset')
    assert found == expected == [0, 1, 2]
    assert isinstance(dataset, CocoDataset)
    assert dataset.file_order == CLASSES
    for index in range(3):
        own, theirs = dataset.get_data_info(index), stock.get_data_info(index)
        assert own == theirs


@pytest.mark.parametrize(
    ('names', 'labels', 'order'),
    [
        (('fox', 'cat', 'dog'), [2, 0, 1], ('fox', 'cat', 'dog')),
        (('dog',), [1], ('dog',)),
        (('bird', 'fox', 'cow', 'cat'), [2, 0], ('fox', 'cat')),
    ],
)
def test_labels_follow_names(tmp_path, names, labels, order):
    path = write(tmp_path / 'a.json', categories(*names))
    found, dataset = labels_of(path)
    assert found == labels and dataset.file_order == order


def test_errors_name_the_file_and_the_entry(tmp_path):
    path = write(tmp_path / 'a.json', categories('cat'), area='much')
    with pytest.raises(ConfigError, match=r"a.json': annotations\[0\] \(id"):
        labels_of(path)
    path.write_text('[')
    with pytest.raises(ConfigError, match='a.json.*is not a COCO annotation file'):
        labels_of(path)
