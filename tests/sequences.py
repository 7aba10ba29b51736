"""A sequence that runs in seconds: few digits, few iterations, few weights."""

import logging
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.toy_data.mini_coco import make_mini_coco
from gslora_mm.utils import atomic_write
from gslora_mm.utils.checkpoint import save_stock_checkpoint

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / 'configs/mini/gs-lora_deformable-detr_mini-coco_3x2.py'


def make_inputs(folder: Path) -> Path:
    """Data and a "pre-trained" checkpoint (random weights) for sequences.

    Args:
        folder: Where to put them.

    Returns:
        Path: The folder.
    """
    make_mini_coco(
        folder / 'data', num_train=40, num_val=10, num_tune=0, num_test=0
    )
    cfg = tiny_sequence(folder, folder / 'unused')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    logging.disable(logging.INFO)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    classes = cfg.val_dataloader.dataset.metainfo.classes
    save_stock_checkpoint(
        model, dict(classes=classes), folder / 'pretrained.pth'
    )
    return folder


def tiny_sequence(inputs: Path, work_dir: Path, **options) -> Config:
    """The demo's config, shrunk to two steps of four iterations.

    Args:
        inputs: Folder of :func:`make_inputs`.
        work_dir: Work dir of the sequence.
        **options: More settings, dots written as two underscores.
    """
    cfg = Config.fromfile(CONFIG)
    data = f'{inputs}/data/'
    settings = {
        'work_dir': str(work_dir),
        'data_root': data,
        'model.backbone.base_channels': 8,
        'model.neck.in_channels': [16, 32, 64],
        'model.encoder.num_layers': 1,
        'model.decoder.num_layers': 2,
        'forgetting.pretrained': str(inputs / 'pretrained.pth'),
        'forgetting.steps': [['one', 'seven'], ['three']],
        'forgetting.retain_share': 0.5,
        'forgetting.forget_share': 0.5,
        'schedule.max_iters': 4,
        'schedule.batch_size': 4,
        'schedule.checkpoint_interval': 2,
        'schedule.log_interval': 2,
        'val_evaluator.ann_file': data + 'annotations/instances_val.json',
    }
    for loader in ('train_dataloader', 'val_dataloader'):
        settings[f'{loader}.num_workers'] = 0
        settings[f'{loader}.persistent_workers'] = False
        settings[f'{loader}.dataset.data_root'] = data
    settings.update(
        {key.replace('__', '.'): value for key, value in options.items()}
    )
    cfg.merge_from_dict(settings)
    return cfg


@pytest.fixture(scope='session')
def inputs(tmp_path_factory):
    """Folder of :func:`make_inputs`; a conftest imports this."""
    return make_inputs(tmp_path_factory.mktemp('inputs'))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Figures have tests of their own and take longer than a step here."""
    monkeypatch.setattr(
        'gslora_mm.reports.report._draw_pictures', lambda *args: False
    )
    for module in ('score_plot', 'group_plot'):
        monkeypatch.setattr(
            f'gslora_mm.reports.{module}.save_figure', _save_nothing
        )


def _save_nothing(figure: Figure, path: str) -> None:
    with atomic_write(path):
        pass
