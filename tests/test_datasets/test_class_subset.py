import copy
import time

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, RepeatDataset
from mmpretrain.structures import DataSample

from gslora_mm.datasets import ClassSubset, LabelTable
from gslora_mm.registry import DATASETS
from gslora_mm.utils import ConfigError

# Labels: 0 person, 1 bicycle, 2 car, 3 motorcycle, 4 dog; -1 - label: crowd.
IMAGES = [[0, 2], [2, 2], [1], [], [4, -3], [0, 4], [-1, 1, 4]]


def labels_of(subset, index):
    return [i['bbox_label'] for i in subset.get_data_info(index)['instances']]


def test_images_and_labels_of_the_classes(make_dataset):
    dataset = make_dataset(IMAGES)
    subset = ClassSubset(dataset, ['car', 'person'])
    assert subset.indices.tolist() == [0, 1, 5]  # crowds do not count
    assert [labels_of(subset, i) for i in range(3)] == [[0, 2], [2, 2], [0]]
    assert subset.labels.tolist() == [0, 2]  # as in the whole data set
    assert subset.class_counts == dict(person=2, car=2)
    assert subset.metainfo == dataset.metainfo
    assert len(subset) == 3
    assert subset.get_data_info(-1)['img_id'] == 105
    assert subset.get_data_info(1)['sample_idx'] == 1


def test_other_annotations_can_be_kept(make_dataset):
    subset = ClassSubset(
        make_dataset(IMAGES), ['dog'], other_annotations='keep'
    )
    assert [labels_of(subset, i) for i in range(3)] == [
        [4, 2],
        [0, 4],
        [0, 1, 4],
    ]


def test_other_objects_can_become_regions_to_be_ignored(make_dataset):
    dataset = make_dataset(IMAGES)
    subset = ClassSubset(dataset, ['dog'], other_annotations='ignore')
    assert labels_of(subset, 2) == [0, 1, 4]
    instances = subset.get_data_info(2)['instances']
    found = [each['ignore_flag'] for each in instances]
    dog = subset.labels[0]
    assert found == [int(label != dog) for label in (0, 1, 4)]
    # Those of the data set itself stay.
    assert not any(
        each['ignore_flag'] for each in dataset.get_data_info(2)['instances']
    )


def test_crowds_of_the_classes_are_kept(make_dataset):
    subset = ClassSubset(make_dataset([[0, -1], [-1]]), ['person'])
    assert subset.indices.tolist() == [0]
    instances = subset.get_data_info(0)['instances']
    assert [i['ignore_flag'] for i in instances] == [0, 1]


def test_nothing_of_an_excluded_class_is_shown(make_dataset):
    subset = ClassSubset(make_dataset(IMAGES), ['dog'], exclude=['car'])
    assert subset.indices.tolist() == [5, 6]  # image 4 has a crowd of cars
    subset = ClassSubset(
        make_dataset(IMAGES), ['dog'], exclude=['car', 'bicycle']
    )
    assert subset.indices.tolist() == [5]


@pytest.mark.parametrize('serialize_data', [True, False])
def test_whole_data_set_is_shared_and_unchanged(make_dataset, serialize_data):
    dataset = make_dataset(IMAGES, serialize_data=serialize_data)
    before = copy.deepcopy([dataset.get_data_info(i) for i in range(7)])
    subset = ClassSubset(dataset, ['person'])
    subset.get_data_info(0)['instances'][0]['bbox'][0] = -1
    assert subset.dataset is dataset
    assert [dataset.get_data_info(i) for i in range(7)] == before


def test_replay(make_dataset, random_labels):
    dataset = make_dataset(random_labels)
    table = LabelTable.scan(dataset)
    everything = ClassSubset(dataset, ['car', 'dog'], table=table)
    tenth = ClassSubset(dataset, ['car', 'dog'], share=0.1, table=table)
    assert len(tenth) == round(0.1 * len(everything))
    assert np.isin(tenth.indices, everything.indices).all()
    shots = ClassSubset(dataset, ['car', 'dog'], shots=4, table=table)
    assert min(shots.class_counts.values()) == 4
    shown = [set(labels_of(shots, i)) for i in range(len(shots))]
    assert shots.class_counts == dict(
        car=sum(2 in labels for labels in shown),
        dog=sum(4 in labels for labels in shown),
    )
    again = ClassSubset(dataset, ['dog', 'car'], shots=4)
    assert again.indices.tolist() == shots.indices.tolist()


def test_classes_that_a_share_leaves_out_are_named(make_dataset, monkeypatch):
    logged = []
    monkeypatch.setattr(
        'gslora_mm.datasets.class_subset.print_log',
        lambda message, *_: logged.append(message),
    )
    dataset = make_dataset([[0]] * 9 + [[4]])
    ClassSubset(dataset, ['person', 'dog'], share=0.1, role='retain')
    assert logged == [
        "retain.share = 0.1 of the images leaves none for ['dog']"
    ]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(classes=['persn']), r"classes: .*'persn'.*'person'"),
        (dict(classes=['dog'], exclude=['cra']), r"exclude: .*'cra'.*'car'"),
        (dict(classes=[]), 'classes: names no class'),
        (dict(classes=['dog'], exclude=['dog']), "'dog' is in classes, too"),
        (dict(classes=['motorcycle']), "no image shows 'motorcycle'"),
        (
            dict(classes=['person'], exclude=['car', 'dog']),
            "no image shows 'person'",
        ),
        (
            dict(classes=['person', 'dog'], shots=3),
            "shots = 3: only 2 images show 'person'; at most 2",
        ),
        (dict(classes=['dog'], shots=0), 'shots = 0: must be at least 1'),
        (dict(classes=['dog'], share=0), r'share = 0: must be in \(0, 1\]'),
        (
            dict(classes=['dog'], share=1.2),
            r'share = 1.2: must be in \(0, 1\]',
        ),
        (
            dict(classes=['dog'], share=0.5, shots=1),
            'shots = 1: there is a share of 0.5, too',
        ),
        (dict(classes=['dog'], sampling='uniform'), "sampling: .*'uniform'"),
        (
            dict(classes=['dog'], other_annotations='droop'),
            "other_annotations: .*'drop'",
        ),
    ],
)
def test_bad_settings(make_dataset, settings, message):
    with pytest.raises(ConfigError, match=message):
        ClassSubset(make_dataset(IMAGES), **settings)


def test_role_is_written_to_the_data_sample(make_dataset):
    dataset = make_dataset(IMAGES)
    data = ClassSubset(dataset, ['dog'], role='forget')[1]
    assert data['data_samples'].role == 'forget'
    assert data['data_samples'].img_id == 105
    assert 'role' not in ClassSubset(dataset, ['dog'])[1]['data_samples']


def test_pipeline_that_gives_nothing(make_dataset):
    answers = [None, None, 1.0]
    subset = ClassSubset(make_dataset(IMAGES, lambda: answers.pop(0)), ['dog'])
    assert subset[0]['data_samples'].img_id in (104, 105, 106)
    assert not answers
    subset = ClassSubset(
        make_dataset(IMAGES, lambda: None, max_refetch=3), ['dog']
    )
    with pytest.raises(RuntimeError, match='in 4 attempts'):
        subset[0]


def test_classification():
    class Images(BaseDataset):
        METAINFO = dict(classes=('cat', 'dog', 'fox'))

        def load_data_list(self):
            return [dict(gt_label=i % 3) for i in range(30)]

    def pack(info):
        return dict(data_samples=DataSample().set_gt_label(info['gt_label']))

    subset = ClassSubset(
        Images(pipeline=[pack]), ['dog', 'fox'], shots=4, role='retain'
    )
    assert len(subset) == 8
    assert subset.class_counts == dict(dog=4, fox=4)
    samples = [subset[i]['data_samples'] for i in range(8)]
    assert sorted(int(s.gt_label) for s in samples) == [1] * 4 + [2] * 4
    assert samples[0].role == 'retain'


def test_from_config(mini_coco):
    subset = DATASETS.build(
        dict(
            type='ClassSubset',
            classes=['three'],
            dataset=coco_config(mini_coco),
        )
    )
    labels = {
        label for i in range(len(subset)) for label in labels_of(subset, i)
    }
    assert labels == {3}
    data = subset[0]
    assert data['inputs'].shape == (3, 96, 96)
    assert set(data['data_samples'].gt_instances.labels.tolist()) == {3}


def coco_config(root, ann_file='annotations/instances_train.json'):
    digits = (
        'zero',
        'one',
        'two',
        'three',
        'four',
        'five',
        'six',
        'seven',
        'eight',
        'nine',
    )
    return dict(
        type='mmdet.CocoDataset',
        data_root=str(root),
        ann_file=ann_file,
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=digits),
        pipeline=[
            dict(type='mmdet.LoadImageFromFile'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True),
            dict(type='mmdet.PackDetInputs'),
        ],
    )


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'No such file'),
        ('{"images": [', 'JSONDecodeError'),
        ('[]', 'annotation file format'),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            'file',
        ),
    ],
)
def test_bad_annotation_file(tmp_path, content, message):
    path = tmp_path / 'bad.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        ConfigError,
        match=f'^dataset.ann_file = .*bad.json.*CocoDataset.*{message}',
    ):
        ClassSubset(coco_config(tmp_path, str(path)), ['three'])


def test_wrappers_are_refused(make_dataset):
    with pytest.raises(
        ConfigError, match="^dataset.type = 'RepeatDataset': must be a data "
    ):
        ClassSubset(RepeatDataset(make_dataset(IMAGES), 2), ['dog'])


@pytest.mark.parametrize(
    'draw', [dict(share=0.5), dict(shots=1, sampling='random')]
)
def test_many_classes_cost_what_few_do(make_dataset, draw):
    """The same objects, as few classes and as those of V3Det."""
    dataset, number = make_dataset([[0]]), 150_000

    def seconds(num_classes):
        classes = [f'class {label}' for label in range(num_classes)]
        labels = np.arange(number) % num_classes
        images, none = np.arange(number), np.zeros(number, bool)
        table = LabelTable(tuple(classes), images, labels, none)
        start = time.process_time()
        subset = ClassSubset(dataset, classes, table=table, **draw)
        assert set(subset.class_counts) == set(classes)
        return time.process_time() - start

    assert min(seconds(13_204) for _ in range(2)) < 1 + 2 * seconds(80)
