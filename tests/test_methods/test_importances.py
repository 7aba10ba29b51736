"""What EWC and MAS share: importances of the step's beginning."""

import copy

import pytest
import torch

from gslora_mm.methods import EWC, MAS
from .helpers import (
    LORA,
    TASKS,
    Half,
    Regression,
    RegressionDataset,
    TinyDataset,
    losses_of,
    tiny_batch,
    tiny_model,
    train,
)

METHODS = (EWC, MAS)


@pytest.mark.parametrize('adapter', [True, False])
@pytest.mark.parametrize('cls', METHODS)
def test_zero_at_the_anchor_with_a_zero_gradient(cls, adapter):
    method, model = cls(weight=100.0), Regression(adapter)
    method.setup(model)
    method.prepare(model, RegressionDataset())
    loss = losses_of(method, Half(), Half())['loss_penalty']
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('cls', METHODS)
def test_a_resumed_step_finds_the_same(cls, task, adapter):
    models = []
    for _ in range(2):
        method = dict(type=f'gslora_mm.{cls.__name__}', weight=5.0)
        models.append(tiny_model(task, method, adapter))
        torch.manual_seed(len(models))  # of no influence
        models[-1].method.prepare(models[-1], TinyDataset(task))
    first, second = models
    batch = tiny_batch(task)
    assert train(first, batch, 2)['loss'].isfinite()
    second.load_resume_state_dict(copy.deepcopy(first.resume_state_dict()))
    logs = [train(model, batch, lr=0) for model in models]
    assert logs[0]['loss_penalty'] > 0
    assert logs[0]['loss_penalty'] == logs[1]['loss_penalty']
    assert logs[0]['loss'] == logs[1]['loss']
