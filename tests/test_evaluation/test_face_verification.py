"""Face verification by split: figures, and lists that do not fit."""

import math

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset

from gslora_mm.evaluation import FaceVerification
from gslora_mm.evaluation.face_verification import read_pairs
from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError

CLASSES = tuple(f'id_{i}' for i in range(6))
SPLITS = dict(forget=['id_0', 'id_1'], retain=['id_2', 'id_3', 'id_4'], old=[])
IMAGES = 4


def path(identity, image):
    return f'id_{identity}/{image}.png'


def make_pairs():
    same = [
        (path(i, a), path(i, b), 1)
        for i in range(5)
        for a in range(IMAGES)
        for b in range(a)
    ]
    different = [
        (path(i, a), path(j, a), 0)
        for i in range(5)
        for j in range(i)
        for a in range(IMAGES)
    ]
    return same + different


class Faces(BaseDataset):
    def load_data_list(self):
        return [
            dict(img_path=f'data/faces/val/{path(i, k)}', gt_label=i)
            for i in range(6)
            for k in range(IMAGES)
        ]


def make_dataset():
    return Faces(metainfo=dict(classes=CLASSES))


def evaluate(metric, spoiled=(), root='data/faces/val'):
    """Embeddings that lie near their identity's axis, but for some."""
    metric.dataset_meta = dict(classes=CLASSES)
    rng = np.random.default_rng(0)
    samples = []
    for identity in range(6):
        for image in range(IMAGES):
            embedding = 0.1 * rng.normal(size=8)
            if identity not in spoiled:
                embedding[identity] += 1
            samples.append(
                dict(
                    img_path=f'{root}/{path(identity, image)}',
                    gt_label=torch.tensor([identity]),
                    embedding=torch.tensor(
                        embedding * rng.uniform(0.5, 20), dtype=torch.float32
                    ),
                )
            )
    metric.process({}, samples[:5])
    metric.process({}, samples[5:])
    return metric.evaluate(len(samples))


def test_splits_are_scored_apart():
    metric = METRICS.build(
        dict(
            type='gslora_mm.FaceVerification',
            pairs=make_pairs(),
            splits=SPLITS,
            far=[0.25],
            folds=3,
        )
    )
    metric.check_dataset(make_dataset())
    figures = evaluate(metric, spoiled=(0, 1))
    names = ('verification_accuracy', 'verification_auc', 'tar@far=0.25')
    assert list(figures) == [
        f'face/{split}{name}'
        for split in ('', 'forget/', 'retain/', 'old/')
        for name in names
    ]
    for name in names:
        assert figures[f'face/retain/{name}'] == 1
        assert figures[f'face/forget/{name}'] < 0.8
        assert math.isnan(figures[f'face/old/{name}'])
        overall = figures[f'face/{name}']
        assert figures[f'face/forget/{name}'] < overall < 1


def test_similarity_is_the_cosine():
    pairs = [('a', 'b', 1), ('a', 'c', 0), ('b', 'd', 1), ('c', 'd', 0)]
    metric = FaceVerification(pairs, far=(0.0,))
    metric.dataset_meta = dict(classes=('x', 'y'))
    vectors = dict(a=[1, 0], b=[30, 40], c=[0, 0.001], d=[0, 2])
    metric.process(
        {},
        [
            dict(img_path=name, gt_label=int(name == 'c'),
                 embedding=torch.tensor(vector, dtype=torch.float32))
            for name, vector in vectors.items()
        ],
    )  # fmt: skip
    # cosines 0.6, 0, 0.8 and 1: the unlike pair c, d is the most alike
    assert metric.evaluate(4) == {
        'face/verification_accuracy': 0.5,
        'face/verification_auc': 0.5,
        'face/tar@far=0': 0.0,
    }


def test_paths_may_be_longer_and_images_unlisted():
    pairs = [
        (f'val/{a}', f'faces/val/{b}', same) for a, b, same in make_pairs()
    ]
    metric = FaceVerification(pairs, SPLITS)
    metric.check_dataset(make_dataset())
    assert evaluate(metric)['face/verification_auc'] == 1
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, [dict(img_path='data/faces/val/id_5/9.png')])
    assert metric.results == [None]


def test_files(tmp_path):
    file = tmp_path / 'pairs.txt'
    file.write_text('# a list\n\nid_0/0.png ./id_0/1.png 1\na b 0\n')
    assert read_pairs(file) == [
        ('id_0/0.png', 'id_0/1.png', True),
        ('a', 'b', False),
    ]
    assert FaceVerification(str(file)).pairs == read_pairs(file)
    file.write_text('id_0/0.png id_0/1.png 1\nid_0/0.png 1\n')
    with pytest.raises(ConfigError, match="txt', line 2: 'id_0/0.png 1'"):
        FaceVerification(str(file))
    with pytest.raises(ConfigError, match='nowhere.txt.*cannot be read'):
        FaceVerification(str(tmp_path / 'nowhere.txt'))
    file.write_text('\n')
    with pytest.raises(ConfigError, match='the list is empty'):
        FaceVerification(str(file))


@pytest.mark.parametrize(
    'pair, message',
    [
        (('id_0/0.png', 'id_7/0.png', 0), "pair 2: unknown name 'id_7'"),
        (('id_0/9.png', 'id_1/0.png', 0), "'id_0/9.png' is no image of the"),
        (('id_0/0.png', 'id_1/0.png', 1), 'said to show one identity, but'),
        (('id_0/0.png', 'id_0/1.png', 0), 'said to show two, but'),
    ],
)
def test_lists_that_do_not_fit_the_images(pair, message):
    metric = FaceVerification([('id_0/0.png', 'id_0/1.png', 1), pair])
    with pytest.raises(ConfigError, match=message):
        metric.check_dataset(make_dataset())
    with pytest.raises(ConfigError, match=message):
        evaluate(metric)


def test_a_name_that_means_two_images():
    metric = FaceVerification([('0.png', 'id_1/1.png', 0)])
    with pytest.raises(ConfigError, match="'0.png' may be .* more of its"):
        metric.check_dataset(make_dataset())


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(far=1e-3), 'val_evaluator.far = 0.001'),
        (dict(far=[1.0]), r'val_evaluator.far = \[1.0\]'),
        (dict(folds=1), 'val_evaluator.folds = 1'),
        (dict(pairs=[('a', 'b', 2)]), r"val_evaluator.pairs\[0\]: 'a b 2'"),
        (dict(pairs=[('a', 'b')]), 'must be two paths and 1'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        FaceVerification(**{'pairs': [('a', 'b', 1)], **settings})


def test_unknown_classes_in_splits():
    metric = FaceVerification(make_pairs(), dict(forget=['id_00']))
    with pytest.raises(ConfigError, match='splits.forget: unknown name'):
        metric.dataset_meta = dict(classes=CLASSES)


def test_a_head_without_embeddings():
    metric = FaceVerification(make_pairs())
    sample = dict(img_path='val/id_0/0.png', gt_label=0)
    with pytest.raises(ConfigError, match='gslora_mm.CosFaceClsHead'):
        metric.process({}, [sample])
