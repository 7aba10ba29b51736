"""What every detector of mmdet's DETR family has to pass with an adapter."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor

from gslora_mm.lora import (
    adapter_state_dict,
    count_parameters,
    disable_lora,
    inject_lora,
    load_adapter,
    lora_groups,
    lora_layers,
    lora_parameters,
    merge_lora,
    merged_state_dict,
    save_adapter,
)
from gslora_mm.tasks.detection.patches import computing_losses
from tests.detectors import (
    DETECTORS,
    build_detector,
    full_detector_config,
    random_batch,
)
from tests.test_lora.helpers import perturb

TARGETS = ['ffn', 'attention', 'all']
TRUNK = ('backbone', 'neck')
BLOCKS = [
    f'{part}.layers.{i}' for part in ('encoder', 'decoder') for i in (0, 1)
]


@torch.no_grad()
def predict(model) -> list[Tensor]:
    """Scores and boxes: of all queries and layers, and as predicted."""
    model.eval()
    data = model.data_preprocessor(random_batch(seed=9), False)
    raw = model(**data, mode='tensor')
    results = model(**data, mode='predict')
    predicted = [r.pred_instances for r in results]
    return [
        *(output for output in raw[:2] if isinstance(output, Tensor)),
        torch.cat([p.scores for p in predicted]),
        torch.cat([p.bboxes for p in predicted]),
    ]


def train_step(model, optimizer, seed=0) -> Tensor:
    model.train()
    torch.manual_seed(seed)  # DINO draws noisy queries
    data = model.data_preprocessor(random_batch(seed=seed), True)
    with computing_losses(model):  # DDQ-DETR leaves no borrowed branches
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def assert_same(one, other, atol=1e-5):
    assert len(one) == len(other) >= 3
    for a, b in zip(one, other, strict=True):
        # boxes are in pixels, 64 across
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


@pytest.mark.parametrize('target', TARGETS)
@pytest.mark.parametrize('name', DETECTORS)
def test_inject_train_merge_load(name, target, tmp_path):
    stock = build_detector(name)
    model = copy.deepcopy(stock)
    before = predict(model)
    state = copy.deepcopy(stock.state_dict())

    layers = inject_lora(model, rank=4, target=target, exclude=TRUNK)
    assert all(layer.startswith(tuple(BLOCKS)) for layer in layers)
    suffix = '.ffn' if target == 'ffn' else ''
    assert list(lora_groups(model)) == [f'{b}{suffix}' for b in BLOCKS]
    assert_same(predict(model), before, atol=1e-6)

    perturb(model, std=0.05)
    start = copy.deepcopy(adapter_state_dict(model))
    optimizer = torch.optim.SGD(lora_parameters(model), lr=1e-3)
    loss = train_step(model, optimizer)
    assert loss.isfinite()
    for key, value in model.state_dict().items():
        if 'lora_' not in key:
            assert torch.equal(value, state[key]), key
    assert all(p.grad is not None for p in lora_parameters(model))
    moved = {
        key
        for key, value in adapter_state_dict(model).items()
        if not torch.equal(value, start[key])
    }
    # DETR's queries start at 0, which leaves some projections without a
    # gradient; FFNs all have one.
    assert moved == set(start) or target != 'ffn'
    for block in BLOCKS:
        assert any(key.startswith(block) for key in moved), block

    adapted = predict(model)
    assert not torch.allclose(adapted[0], before[0], atol=1e-3)
    with disable_lora(model):
        # Attention may take another kernel where gradients are wanted.
        assert_same(predict(model), before, atol=1e-6)

    save_adapter(model, tmp_path / 'adapter.safetensors')
    twin = copy.deepcopy(stock)
    inject_lora(twin, rank=4, target=target, exclude=TRUNK)
    load_adapter(twin, tmp_path / 'adapter.safetensors')
    assert_same(predict(twin), adapted, atol=0)

    merged = merged_state_dict(model)
    assert list(merged) == list(state)
    merge_lora(model)
    assert all(
        torch.equal(v, merged[k]) for k, v in model.state_dict().items()
    )
    assert_same(predict(model), adapted)
    fresh = build_detector(name, seed=1)
    fresh.load_state_dict(merged, strict=True)
    assert_same(predict(fresh), predict(model), atol=0)


def test_full_size_deformable_detr():
    """24 adapters of rank 8 on 256 x 1024 layers, 0.6 % of the model."""
    init_default_scope('mmdet')
    model = MODELS.build(full_detector_config('deformable_detr'))
    keys = list(model.state_dict())
    stock = count_parameters(model)[1]
    layers = inject_lora(model, exclude=TRUNK)
    assert len(layers) == 24
    assert count_parameters(model) == (245_760, stock + 245_760)
    assert 0.0060 < 245_760 / stock < 0.0063
    groups = lora_groups(model)
    assert list(groups) == [
        f'{part}.layers.{i}.ffn'
        for part in ('encoder', 'decoder')
        for i in range(6)
    ]
    for members in groups.values():
        assert sum(p.numel() for p in members) == 20_480
    assert [k for k in model.state_dict() if 'lora_' not in k] == keys


def test_shared_prediction_layers_of_deformable_detr_stay_shared():
    """Without box refinement all decoder layers have one box branch."""
    model = build_detector('deformable_detr')
    inject_lora(model, rank=4, target=r'bbox_head\.(cls|reg)_branches')
    assert len(lora_layers(model)) == 1 + 3
    branches = model.bbox_head.cls_branches
    assert all(branch is branches[0] for branch in branches)
    adapted = predict(perturb(model))
    state = merged_state_dict(model)
    merge_lora(model)
    assert all(branch is branches[0] for branch in branches)
    assert_same(predict(model), adapted, atol=1e-4)
    fresh = build_detector('deformable_detr', seed=1)
    fresh.load_state_dict(state, strict=True)
    assert_same(predict(fresh), predict(model), atol=0)


# The losses of DDQ-DETR's dense queries mix precisions in mmdet.
@pytest.mark.parametrize('name', sorted(set(DETECTORS) - {'ddq_detr'}))
def test_bfloat16_autocast(name):
    model = build_detector(name)
    inject_lora(model, rank=4, target='all', exclude=TRUNK)
    perturb(model, std=0.05)
    optimizer = torch.optim.SGD(lora_parameters(model), lr=1e-3)
    with torch.autocast('cpu', torch.bfloat16):
        assert train_step(model, optimizer).isfinite()
    for parameter in lora_parameters(model):
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
