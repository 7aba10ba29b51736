"""Wrappers of data sets are read through where it can be done right."""

import pytest

from gslora_mm.datasets import drawn_dataset, parts_of, plain_dataset
from gslora_mm.utils import ConfigError

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = [dict(type='PackDetInputs')]
MOSAIC = dict(type='mmdet.Mosaic', img_scale=(64, 64))


def coco(file='a.json', **more):
    return dict(type='CocoDataset', ann_file=file, pipeline=LOAD, **more)


def named(file='a.json', **more):
    return {**coco(file, **more), 'type': 'gslora_mm.NamedCocoDataset'}


@pytest.mark.parametrize(
    ('config', 'plain'),
    [
        (coco(), named()),
        (coco() | dict(type='mmdet.CocoDataset'), named()),
        (dict(type='Own', ann_file='a'), dict(type='Own', ann_file='a')),
        (dict(type='RepeatDataset', times=2, dataset=coco()), named()),
        (
            dict(
                type='ClassBalancedDataset', oversample_thr=1, dataset=coco()
            ),
            named(),
        ),
        (
            dict(type='ConcatDataset', datasets=[coco('a'), coco('b')]),
            [named('a'), named('b')],
        ),
        (
            dict(
                type='RepeatDataset',
                times=2,
                dataset=dict(
                    type='ConcatDataset',
                    datasets=[
                        dict(type='RepeatDataset', times=9, dataset=coco('a')),
                        coco(['b', 'c']),
                    ],
                ),
            ),
            [named('a'), named('b'), named('c')],
        ),
        (dict(type='ConcatDataset', datasets=[coco()]), named()),
        (
            coco(['a', 'b'], data_prefix=dict(img=['x/', 'y/'])),
            [
                named('a', data_prefix=dict(img='x/')),
                named('b', data_prefix=dict(img='y/')),
            ],
        ),
        (
            coco(['a', 'b'], data_prefix=dict(img='x/')),
            [named(f, data_prefix=dict(img='x/')) for f in 'ab'],
        ),
        (
            dict(type='MultiImageMixDataset', dataset=coco(), pipeline=PACK),
            named() | dict(pipeline=LOAD + PACK),
        ),
    ],
)
def test_read_through(config, plain):
    if isinstance(plain, list):
        plain = dict(type='gslora_mm.JoinedDataset', datasets=plain)
    assert plain_dataset(config) == plain
    files = [each.get('ann_file') for each in parts_of(config)]
    assert files == [each.get('ann_file') for each in parts_of(plain)]


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            dict(
                type='MultiImageMixDataset',
                dataset=coco(),
                pipeline=[MOSAIC, *PACK],
            ),
            r"pipeline = \['Mosaic'\]: would paste",
        ),
        (
            coco() | dict(pipeline=[*LOAD, dict(type='CachedMixUp'), *PACK]),
            r"pipeline = \['CachedMixUp'\]: would paste",
        ),
        (
            coco()
            | dict(
                pipeline=[
                    *LOAD,
                    dict(type='RandomApply', transforms=[[MOSAIC]], prob=0.5),
                ]
            ),
            r"pipeline = \['Mosaic'\]",
        ),
        (
            dict(
                type='RepeatDataset',
                dataset=coco() | dict(pipeline=[dict(type='CopyPaste')]),
            ),
            'dataset.pipeline = .*CopyPaste',
        ),
        (
            coco(['a', 'b'], data_prefix=dict(img=['x/'])),
            'data_prefix.img = .*one for each of the 2 files',
        ),
        (dict(type='ConcatDataset', datasets=[]), r'datasets = \[\]'),
    ],
)
def test_what_cannot_be_read_through(config, message):
    with pytest.raises(ConfigError, match=message):
        plain_dataset(config)


@pytest.mark.parametrize('own', [{}, dict(pipeline=PACK)])
def test_a_share_of_it(own):
    joined = dict(type='gslora_mm.JoinedDataset', datasets=[named('a')], **own)
    assert drawn_dataset(joined, 0.5) == {**joined, 'share': 0.5}
    one = dict(type='gslora_mm.JoinedDataset', datasets=[named('a')])
    assert drawn_dataset(named('a'), 0.5) == {**one, 'share': 0.5}
