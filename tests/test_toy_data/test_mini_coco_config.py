from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from gslora_mm.toy_data import MINI_COCO_CLASSES

CONFIG = (
    Path(__file__).parents[2] / 'configs/mini/deformable-detr_mini-coco.py'
)


@pytest.fixture
def cfg(mini_coco):
    cfg = Config.fromfile(CONFIG)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(mini_coco)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield cfg


def test_data(cfg):
    for loader, count in ((cfg.train_dataloader, 24), (cfg.val_dataloader, 8)):
        dataset = Runner.build_dataloader(loader).dataset
        assert len(dataset) == count
        assert dataset.metainfo['classes'] == MINI_COCO_CLASSES
        assert len(dataset.metainfo['palette']) == 10
        data = dataset[0]
        assert data['inputs'].shape == (3, 96, 96)
        assert data['data_samples'].scale_factor == (1, 1)
        assert len(data['data_samples'].gt_instances) >= 1


def test_model_learns_and_predicts(cfg):
    from mmdet.registry import MODELS

    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert sum(p.numel() for p in model.parameters()) == 1_159_484
    dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    batch = pseudo_collate([dataset[i] for i in range(4)])
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = [
        model.train_step(batch, wrapper)['loss'].item() for _ in range(6)
    ]
    assert losses[-1] < 0.9 * losses[0]
    model.eval()
    with torch.no_grad():
        [prediction, *_] = model.test_step(batch)
    found = prediction.pred_instances
    assert found.bboxes.shape == (16, 4)
    assert found.labels.max() < 10
    assert found.scores.isfinite().all()
