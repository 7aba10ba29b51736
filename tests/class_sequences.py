"""Sequences of a classifier that run in seconds, on folders of images."""

from collections.abc import Collection, Mapping
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn

from gslora_mm.utils.checkpoint import save_stock_checkpoint
from tests.classifiers import CLASSIFIERS, build_classifier

CLASSES = ('blue', 'cyan', 'green', 'pink', 'red', 'yellow')
COLOURS = (
    (40, 40, 220),
    (40, 210, 210),
    (40, 180, 40),
    (230, 120, 180),
    (220, 40, 40),
    (220, 210, 40),
)


def make_images(
    folder: Path, counts: Mapping[str, int], seed: int = 0
) -> None:
    """Draw noisy squares of a colour, 32 x 32 pixels.

    Args:
        folder: Gets a folder for each class.
        counts: Number of images by class.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        colour = np.array(COLOURS[CLASSES.index(name)])
        for number in range(count):
            image = colour + rng.normal(0, 50, (32, 32, 3))
            image = image.clip(0, 255).astype(np.uint8)
            path = str(folder / name / f'{number}.png')
            mmcv.imwrite(image[..., ::-1], path)


def make_class_inputs(folder: Path, known: Collection[str] = CLASSES) -> Path:
    """Data and a checkpoint that knows it, for sequences.

    Args:
        folder: Where to put them.
        known: Classes that the checkpoint has been trained on. Defaults to
            all of them.

    Returns:
        Path: The folder.
    """
    make_images(folder / 'train', dict.fromkeys(CLASSES, 12))
    make_images(folder / 'val', dict.fromkeys(CLASSES, 5), seed=1)
    model = build_classifier('deit', len(CLASSES))
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    images = torch.stack(
        [
            torch.from_numpy(mmcv.imread(str(path))).permute(2, 0, 1)
            for path in sorted((folder / 'train').rglob('*.png'))
        ]
    )
    inputs = model.data_preprocessor(dict(inputs=images))['inputs']
    labels = torch.arange(len(CLASSES)).repeat_interleave(12)
    used = torch.tensor([name in known for name in CLASSES])[labels]
    inputs, labels = inputs[used], labels[used]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_stock_checkpoint(
        model, dict(classes=CLASSES), folder / 'pretrained.pth'
    )
    return folder


def tiny_class_sequence(inputs: Path, work_dir: Path, **options) -> Config:
    """mmpretrain's DeiT config, shrunk to two steps of a few iterations.

    Batch augmentations, hooks and visualizer are those of the stock config.

    Args:
        inputs: Folder of :func:`make_class_inputs`.
        work_dir: Work dir of the sequence.
        **options: More settings, dots written as two underscores.
    """
    from tests.classifiers import tiny_classifier_config

    cfg = get_config(f'mmpretrain::{CLASSIFIERS["deit"]}.py')
    model = tiny_classifier_config('deit', len(CLASSES))
    model.head.loss = dict(type='CrossEntropyLoss', use_soft=True)
    cfg.data_preprocessor = model.pop('data_preprocessor')
    cfg.model = model
    load = dict(type='LoadImageFromFile')
    flip = dict(type='RandomFlip', prob=0.5)
    pack = dict(type='PackInputs')
    for split, pipeline in dict(
        train=[load, flip, pack], val=[load, pack]
    ).items():
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=10, num_workers=0, persistent_workers=False)
        loader.dataset = dict(
            type='CustomDataset',
            data_prefix=str(inputs / split),
            pipeline=pipeline,
            serialize_data=False,
        )
    cfg.test_dataloader = cfg.val_dataloader
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'forgetting': dict(
                pretrained=str(inputs / 'pretrained.pth'),
                steps=[['red', 'cyan'], ['green']],
                shots=4,
            ),
            'method': dict(type='gslora_mm.GSLoRA', beta=0.5, bound=10.0),
            'adapter': dict(rank=4, alpha=16.0),
            'schedule': dict(
                max_iters=24,
                batch_size=8,
                optim_wrapper=dict(
                    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01)
                ),
                checkpoint_interval=8,
                log_interval=8,
            ),
            **{k.replace('__', '.'): v for k, v in options.items()},
        }
    )
    return cfg
