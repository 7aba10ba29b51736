"""The configs of configs/lora, shrunk to seconds, on generated data."""

import logging
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from gslora_mm.models import build_stock_model
from gslora_mm.toy_data import make_mini_coco, make_mini_digits
from gslora_mm.utils.checkpoint import save_stock_checkpoint

CONFIGS = Path(__file__).parent.parent / 'configs' / 'lora'
DETECTOR = 'lora_deformable-detr_mini-coco'
CLASSIFIER = 'lora_vit_mini-digits'
#: What a shrunk model differs in from the one of its config.
SMALLER = {
    DETECTOR: {
        'backbone.base_channels': 8,
        'neck.in_channels': [16, 32, 64],
        'encoder.num_layers': 1,
        'decoder.num_layers': 2,
    },
    CLASSIFIER: {
        'backbone.arch': dict(
            embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64
        ),
        'head.in_channels': 32,
    },
}


def make_lora_inputs(folder: Path, name: str) -> Path:
    """Data, and a stock checkpoint with random weights.

    Args:
        folder: Where to put them.
        name: ``DETECTOR`` or ``CLASSIFIER``.

    Returns:
        Path: The folder.
    """
    if name == DETECTOR:
        make_mini_coco(
            folder / 'data', num_train=24, num_val=4, num_tune=0, num_test=0
        )
    else:
        make_mini_digits(
            folder / 'data',
            train_copies=1,
            val_copies=1,
            max_scans=60,
            tune_copies=0,
            test_copies=0,
        )
    model = stock_model(lora_config(folder, folder / 'unused', name))
    save_stock_checkpoint(model, {}, folder / 'stock.pth')
    return folder


def stock_model(cfg: Config, seed: int = 0) -> nn.Module:
    """The stock model of a LoRA config, initialised as mmdet does."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(seed)
    model = build_stock_model(cfg.model.model, cfg.get('data_preprocessor'))
    logging.disable(logging.INFO)  # a line per parameter
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    return model


def lora_config(inputs: Path, work_dir: Path, name: str, **options) -> Config:
    """A config of configs/lora, shrunk: two epochs of a few iterations.

    Args:
        inputs: Folder of :func:`make_lora_inputs`.
        work_dir: Work dir of the run.
        name: ``DETECTOR`` or ``CLASSIFIER``.
        **options: More settings, dots written as two underscores.
    """
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    data = f'{inputs}/data/'
    settings = {
        'work_dir': str(work_dir),
        'load_from': str(inputs / 'stock.pth'),
        'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 2,
        'train_dataloader.batch_size': 8,
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 1,
    }
    for key, value in SMALLER[name].items():
        settings[f'model.model.{key}'] = value
    for loader in ('train', 'val', 'test'):
        settings[f'{loader}_dataloader.num_workers'] = 0
        settings[f'{loader}_dataloader.persistent_workers'] = False
        settings[f'{loader}_dataloader.dataset.data_root'] = data
        settings[f'{loader}_dataloader.dataset.indices'] = 24
        if name == DETECTOR and loader != 'train':
            annotations = f'{data}annotations/instances_val.json'
            settings[f'{loader}_evaluator.ann_file'] = annotations
    settings.update(
        {key.replace('__', '.'): value for key, value in options.items()}
    )
    cfg.merge_from_dict(settings)
    cfg.param_scheduler = None
    return cfg
