"""Projects of users who have never heard of this package.

A folder with images, a config as mmdet or mmpretrain has them, with relative
paths, and the checkpoint of an ordinary training run.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from gslora_mm.utils.quiet import no_prints
from tests.class_sequences import make_images
from tests.classifiers import tiny_classifier_config
from tests.detectors import tiny_detector_config

THINGS = ('person', 'car', 'bus', 'traffic light')
COLOURS = ((220, 40, 40), (40, 180, 40), (40, 40, 220), (220, 210, 40))
SIZE = 64

RUNTIME = """\
default_scope = {scope!r}
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'))
log_level = 'WARNING'
load_from = 'work_dirs/of_another_model/epoch_12.pth'
resume = False
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[1])]
auto_scale_lr = dict(base_batch_size=16)
work_dir = 'work_dirs/my_training'
"""

DETECTOR = """\
_base_ = ['./base/model.py', './base/runtime.py']
data_root = 'data/'
classes = ('person', 'car', 'bus', 'traffic light')
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]
resize = dict(type='Resize', scale=(64, 64), keep_ratio=True)
pipeline.insert(1, resize)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=2),
        pipeline=pipeline))
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=pipeline))
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'annotations/val.json',
    metric='bbox')
"""

CLASSIFIER = """\
_base_ = ['./base/model.py', './base/runtime.py']
load = dict(type='LoadImageFromFile')
pack = dict(type='PackInputs')
train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data',
        data_prefix='train',
        pipeline=[load, dict(type='RandomFlip', prob=0.5), pack]))
val_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root='data',
        data_prefix='val',
        pipeline=[load, pack]))
val_evaluator = dict(type='Accuracy', topk=(1, ))
"""


def make_detector(folder: Path, name: str = 'deformable_detr') -> Path:
    """A tiny detector of mmdet, trained for one epoch.

    Args:
        folder: Gets ``my_detector.py``, ``data/`` and ``work_dirs/``.
        name: One of ``tests.detectors.DETECTORS``. Defaults to
            ``'deformable_detr'``.

    Returns:
        Path: The folder.
    """
    for split, count in dict(train=12, val=4).items():
        _draw_scenes(folder / 'data', split, count)
    model = tiny_detector_config(name, len(THINGS))
    return _train(folder, 'my_detector', 'mmdet', DETECTOR, dict(model=model))


def make_classifier(folder: Path) -> Path:
    """A tiny DeiT of mmpretrain on folders of images, trained for one epoch.

    Args:
        folder: Gets ``my_vit.py``, ``data/`` and ``work_dirs/``.

    Returns:
        Path: The folder.
    """
    names = ('blue', 'green', 'red', 'yellow')
    for split, count in dict(train=8, val=3).items():
        make_images(folder / 'data' / split, dict.fromkeys(names, count))
    model = tiny_classifier_config('deit', len(names))
    preprocessor = model.pop('data_preprocessor')
    base = dict(model=model, data_preprocessor=preprocessor)
    return _train(folder, 'my_vit', 'mmpretrain', CLASSIFIER, base)


def _draw_scenes(root: Path, split: str, count: int) -> None:
    """Two coloured boxes an image, each category in half of the images."""
    rng = np.random.default_rng(count)
    images, annotations = [], []
    for number in range(count):
        name = f'{split}_{number}.png'
        scene = rng.integers(90, 110, (SIZE, SIZE, 3), dtype=np.uint8)
        for place in range(2):
            label = (number + 2 * place) % len(THINGS)
            x, y = (int(v) for v in rng.integers(2, 8, 2) + (30 * place, 20))
            scene[y : y + 24, x : x + 20] = COLOURS[label]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=label + 1,
                    bbox=[x, y, 20, 24],
                    area=480,
                    iscrowd=0,
                )
            )
        mmcv.imwrite(scene[..., ::-1], str(root / 'images' / name))
        images.append(dict(id=number, file_name=name, width=SIZE, height=SIZE))
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in enumerate(THINGS, 1)],
    )
    path = root / 'annotations' / f'{split}.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _train(folder: Path, name: str, scope: str, text: str, base: dict) -> Path:
    """Write the configs and run them, as the tools of the libraries do."""
    (folder / 'base').mkdir()
    Config(base).dump(folder / 'base' / 'model.py')
    (folder / 'base' / 'runtime.py').write_text(RUNTIME.format(scope=scope))
    (folder / f'{name}.py').write_text(text)
    cfg = Config.fromfile(folder / f'{name}.py')
    cfg.load_from = None
    with inside(folder), no_prints():
        init_default_scope(scope)
        Runner.from_cfg(cfg).train()
    return folder


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for a while."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
