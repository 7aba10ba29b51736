import itertools
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from torch.utils.data import DataLoader

from gslora_mm.datasets import LabelTable, build_dataset
from gslora_mm.utils import ConfigError, coco_annotations
from gslora_mm.utils.sharing import read_once

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
    with pytest.raises(ConfigError, match='a.json.*is not a COCO annotation'):
        labels_of(path)


def write_at_random(path, seed):
    """Objects of all kinds: crowds, outside, tiny, ignored, of no class."""
    rng = np.random.default_rng(seed)
    images = [
        dict(id=7 * n, file_name=f'{n}.png', width=int(w), height=60)
        for n, w in enumerate(rng.choice([20, 80], 30))
    ]
    annotations = []
    for number in range(1, 200):
        box = [*rng.integers(-20, 90, 2), *rng.uniform(0.5, 30, 2)]
        each = dict(
            id=number,
            image_id=int(rng.choice([*range(0, 196, 7), 5])),
            category_id=int(rng.choice([7, 8, 9, 12])),
            bbox=[float(value) for value in box],
            area=float(rng.choice([0, 5.5, 300])),
            iscrowd=int(rng.random() < 0.2),
        )
        if rng.random() < 0.2:
            each['ignore'] = int(rng.integers(2))
        if rng.random() < 0.5:
            each['segmentation'] = [[1, 2, 3, 4, 5, 6]]
        annotations.append(each)
    content = dict(
        images=images,
        annotations=annotations,
        categories=[*categories(*CLASSES), dict(id=12, name='cow')],
    )
    path.write_text(json.dumps(content))
    return path


def build(path, kind='gslora_mm.NamedCocoDataset', classes=CLASSES, **more):
    config = dict(
        type=kind,
        ann_file=str(path),
        metainfo=dict(classes=classes),
        data_prefix=dict(img='images/'),
        pipeline=[],
    )
    return build_dataset(config | more)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(
    'more',
    [
        dict(),
        dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)),
        dict(serialize_data=False, indices=9),
        dict(return_classes=True, test_mode=True),
    ],
)
def test_objects_are_read_as_by_mmdet(tmp_path, seed, more):
    path = write_at_random(tmp_path / 'a.json', seed)
    own, stock = build(path, **more), build(path, 'mmdet.CocoDataset', **more)
    infos = [[d.get_data_info(i) for i in range(len(d))] for d in (own, stock)]
    assert infos[0] == infos[1] and len(own)
    assert any(info['instances'] for info in infos[0])
    assert own.cat_ids == stock.cat_ids
    assert own.cat2label == stock.cat2label
    assert own.cat_img_map == stock.cat_img_map
    tables = list(map(LabelTable.scan, (own, stock)))
    for name in ('images', 'labels', 'ignored'):
        found, expected = (getattr(table, name) for table in tables)
        assert found.tolist() == expected.tolist()


@pytest.fixture
def reads(monkeypatch):
    """Files that have been read."""
    found, load = [], json.load

    def counted(stream):
        found.append(stream.name)
        return load(stream)

    monkeypatch.setattr(coco_annotations.json, 'load', counted)
    return found


def test_data_sets_share_what_they_read(tmp_path, reads):
    path = write_at_random(tmp_path / 'a.json', 0)
    with read_once():
        first, second = build(path), build(path)
        others = [
            build(path, classes=CLASSES[::-1]),
            build(path, test_mode=True),
            build(path, data_prefix=dict(img='other/')),
        ]
    assert len(reads) == 4
    assert second.data_bytes is first.data_bytes
    assert second.file_order == first.file_order == CLASSES
    with pytest.raises(ValueError, match='read-only'):
        first.data_bytes[0] = 0
    info = first.get_data_info(0)
    info['instances'].append(dict(bbox_label=0))
    assert second.get_data_info(0) != info
    labels = LabelTable.scan(second).labels
    assert (LabelTable.scan(others[0]).labels == 2 - labels).all()
    # Nothing is kept for what comes later.
    assert build(path).data_bytes is not first.data_bytes


def test_subsets_have_objects_of_their_own(tmp_path):
    dataset = build(write_at_random(tmp_path / 'a.json', 0))
    whole = LabelTable.scan(dataset)
    part = LabelTable.scan(dataset.get_subset([3, 2]))
    expected = [
        int(label)
        for image in (3, 2)
        for label in whole.labels[whole.images == image]
    ]
    assert part.labels.tolist() == expected
    assert LabelTable.scan(dataset).labels.tolist() == whole.labels.tolist()


def test_workers_read_what_is_shared(tmp_path):
    path = write_at_random(tmp_path / 'a.json', 0)
    with read_once():
        build(path)
        dataset = build(path)
        loader = DataLoader(dataset, num_workers=2, collate_fn=list)
        found = list(itertools.chain.from_iterable(loader))
    expected = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert found == expected
