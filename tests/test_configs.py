"""Every config runs: two iterations and an evaluation on generated data."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from PIL import Image

from gslora_mm.datasets import make_mini_coco
from gslora_mm.engine import ForgettingSequence
from gslora_mm.engine.preflight import check_sequence
from gslora_mm.utils.checkpoint import save_stock_checkpoint

CONFIGS = Path(__file__).parent.parent / 'configs'
SEQUENCES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and path.name.startswith('gs-lora')
)
PRETRAINING = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and not path.name.startswith('gs-lora')
)
SIZE = 128


def make_coco(root: Path, num_images: int = 33) -> None:
    """All 80 categories of COCO in every image, in COCO's own layout."""
    names = CocoDataset.METAINFO['classes']
    ids = [i for i in range(1, 91) if i not in
           (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # fmt: skip
    rng = np.random.default_rng(0)
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        images, annotations = [], []
        for i in range(num_images if split == 'train2017' else 2):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            name = f'{i:012d}.jpg'
            Image.fromarray(pixels).save(root / split / name)
            images.append(
                dict(id=i + 1, file_name=name, height=SIZE, width=SIZE)
            )
            for place, category in enumerate(rng.permutation(ids)):
                row, column = divmod(place, 9)
                box = [column * 14, row * 14, 12, 12]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i + 1,
                        category_id=int(category),
                        bbox=box,
                        area=144,
                        iscrowd=0,
                    )
                )
        content = dict(
            images=images,
            annotations=annotations,
            categories=[
                dict(id=i, name=name)
                for i, name in zip(ids, names, strict=True)
            ],
        )
        path = root / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(content))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_coco(root / 'coco')
    make_mini_coco(root / 'mini_coco', num_train=200, num_val=4)
    return root


def shrink(entry, size):
    """Make the pipelines resize to a small size."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key == 'scales':
                entry[key] = [(size, size)]
            elif key == 'scale':
                entry[key] = (size, size)
            elif key == 'crop_size':
                entry[key] = (96, 96)
            else:
                shrink(value, size)
    elif isinstance(entry, list):
        for value in entry:
            shrink(value, size)


def load(name: str, data: Path, tmp_path: Path) -> Config:
    """A config of the project, on generated data."""
    cfg = Config.fromfile(CONFIGS / name)
    root = data / ('mini_coco' if name.startswith('mini') else 'coco')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].dataset.data_root = f'{root}/'
        cfg[loader].num_workers = 0
        cfg[loader].persistent_workers = False
    for evaluator in ('val_evaluator', 'test_evaluator'):
        path = Path(cfg[evaluator].ann_file)
        cfg[evaluator].ann_file = str(root / 'annotations' / path.name)
    # DINO chooses 900 of the encoder's tokens.
    shrink(cfg._cfg_dict, 2 * SIZE if name.startswith('dino') else SIZE)
    cfg.model.backbone.init_cfg = None
    cfg.work_dir = str(tmp_path / 'run')
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('name', SEQUENCES)
def test_sequence(name, data, tmp_path):
    cfg = load(name, data, tmp_path)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model.to_dict())
    logging.disable(logging.INFO)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    cfg.forgetting.pretrained = str(tmp_path / 'stock.pth')
    save_stock_checkpoint(model, {}, cfg.forgetting.pretrained)

    checked = check_sequence(cfg)
    # One step of what the whole config has been checked for.
    cfg.forgetting.steps = [list(checked.plan.steps[0])]
    for key, value in cfg.method.items():
        if isinstance(value, list):
            cfg.method[key] = value[0]
    cfg.schedule.max_epochs = None
    cfg.schedule.max_iters = 2
    cfg.schedule.batch_size = 2
    report = ForgettingSequence(cfg).run()
    (step,) = report['steps']
    assert step['iterations'] == 2
    assert step['retain_score'] is not None
    if not name.startswith('mini'):
        expected = 442_368 if name.startswith('dino') else 245_760
        assert step['trainable_parameters'] == expected
        assert len(step['groups']) == 12
    merged = torch.load(tmp_path / 'run' / 'step_01' / 'merged.pth')
    assert list(merged['state_dict']) == list(model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize('name', PRETRAINING)
def test_pretraining(name, data, tmp_path):
    cfg = load(name, data, tmp_path)
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=2, val_interval=2
    )
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=2
    )
    cfg.runner_type = 'gslora_mm.QuietRunner'
    RUNNERS.build(cfg).train()
    assert (tmp_path / 'run' / 'pretrained.pth').is_file()
