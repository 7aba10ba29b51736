"""Fine-tuning: nothing but what is to be kept."""

import copy

import pytest
import torch

from gslora_mm.methods import FineTune
from .helpers import (
    LORA,
    TASKS,
    Half,
    Unread,
    losses_of,
    tiny_batch,
    tiny_model,
    total,
    train,
)


def test_loss_by_hand():
    retain = Half(0.4, 0.2)
    losses = losses_of(FineTune(), Unread(), retain)
    total(losses).backward()
    assert losses['loss_retain'].item() == pytest.approx(0.6, 1e-6)
    assert retain.loss_cls.grad == retain.loss_rest.grad == 1


def test_only_retain_images_are_read():
    assert FineTune.needs == ('retain',)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_goes_on_from_the_checkpoint(task, adapter):
    model = tiny_model(task, dict(type='gslora_mm.FineTune'), adapter)
    before = copy.deepcopy(model.state_dict())
    batch = tiny_batch(task, role='retain')
    loss = train(model, batch, lr=0)['loss']
    train(model, batch, 10)
    assert train(model, batch, lr=0)['loss'] < loss
    moved = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved
    if adapter:
        assert all('lora_' in name for name in moved)
