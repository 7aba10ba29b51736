import json

import pytest
from mmdet.datasets import CocoDataset
from mmengine.dataset import BaseDataset

from gslora_mm.datasets import LabelTable
from gslora_mm.utils import ConfigError


class Classification(BaseDataset):
    METAINFO = dict(classes=('cat', 'dog', 'fox'))

    def load_data_list(self):
        return [dict(gt_label=2), dict(gt_label=[0, 1]), dict(gt_label=0)]


class Unlabelled(BaseDataset):
    METAINFO = dict(classes=('cat', 'dog'))

    def load_data_list(self):
        return [dict(img_path='a.png')]


@pytest.mark.parametrize('serialize_data', [True, False])
def test_scan_detection(make_dataset, serialize_data):
    dataset = make_dataset(
        [[0, 2, 2], [], [-2, 4]], lazy_init=True, serialize_data=serialize_data
    )
    table = LabelTable.scan(dataset)
    assert table.classes == dataset.metainfo['classes']
    assert table.images.tolist() == [0, 0, 0, 2, 2]
    assert table.labels.tolist() == [0, 2, 2, 1, 4]
    assert table.ignored.tolist() == [False] * 3 + [True, False]
    # Two objects of one image, and none of a crowd.
    names = [table.classes[label] for label in (0, 1, 2, 4)]
    assert table.num_images(names) == 2
    assert table.num_images(names[1:2]) == 0


def test_scan_classification():
    table = LabelTable.scan(Classification())
    assert table.images.tolist() == [0, 1, 1, 2]
    assert table.labels.tolist() == [2, 0, 1, 0]
    assert not table.ignored.any()


def test_data_without_labels_or_names(make_dataset):
    with pytest.raises(ConfigError, match='1 images has no labels'):
        LabelTable.scan(Unlabelled())
    with pytest.raises(ConfigError, match='metainfo.classes: missing'):
        LabelTable.scan(make_dataset([[0]], metainfo=dict(classes=None)))


def write_coco(path, categories, **more):
    """One image with one object of each category, in this order of keys."""
    content = dict(
        **more,
        images=[dict(id=1, file_name='1.png', width=99, height=99)],
        annotations=[
            dict(
                id=i,
                image_id=1,
                category_id=category['id'],
                bbox=[10 * i, 10, 8, 8],
                area=64,
                iscrowd=0,
            )
            for i, category in enumerate(categories)
        ],
        categories=categories,
    )
    path.write_text(json.dumps(content))
    return path


CATEGORIES = [
    dict(id=7, name='cat'),
    dict(id=3, name='dog'),
    dict(id=9, name='fox'),
]


def scan_coco(path, classes):
    return LabelTable.scan(
        CocoDataset(
            ann_file=str(path),
            metainfo=dict(classes=classes),
            data_prefix=dict(img=''),
            pipeline=[],
        )
    )


def test_labels_follow_the_annotation_file(tmp_path):
    path = write_coco(tmp_path / 'a.json', CATEGORIES)
    table = scan_coco(path, ('cat', 'dog', 'fox'))
    assert table.labels.tolist() == [0, 1, 2]
    # A shorter list renumbers the labels, consistently.
    assert scan_coco(path, ('dog', 'fox')).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    'classes',
    [
        ('dog', 'cat', 'fox'),
        ('cat', 'wolf', 'dog', 'fox'),  # the file has no wolf: labels shift
    ],
)
def test_names_that_would_point_to_other_labels(tmp_path, classes):
    path = write_coco(tmp_path / 'a.json', CATEGORIES)
    with pytest.raises(
        ConfigError,
        match=r'write the classes in that order: '
        r"\['cat', 'dog', 'fox'\]",
    ):
        scan_coco(path, classes)


@pytest.mark.parametrize(
    'more',
    [
        dict(info={'categories': 'none'}),
        dict(zoo=[{'categories': [1, 2]}]),
    ],
)
def test_categories_are_found_wherever_they_stand(tmp_path, more):
    path = write_coco(tmp_path / 'a.json', CATEGORIES, **more)
    content = json.loads(path.read_text())
    reverse = dict(reversed(content.items()))  # categories first, `more` last
    path.write_text(json.dumps(reverse))
    assert scan_coco(path, ('cat', 'dog', 'fox')).labels.tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="'cat' has label 0"):
        scan_coco(path, ('fox', 'dog', 'cat'))
