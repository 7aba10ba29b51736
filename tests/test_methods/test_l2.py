"""L2: a pull back to where the step began."""

import copy

import pytest
import torch

from gslora_mm.methods import L2
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import perturb
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
    total,
    train,
)


def set_up(adapter=False, **settings):
    method, model = L2(**settings), Regression(adapter)
    method.setup(model)
    method.prepare(model, RegressionDataset())
    return method, model


def move(model, amount):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(amount)


def test_loss_by_hand():
    method, model = set_up(beta=0.3, weight=0.2)
    move(model, 0.5)
    forget = Half(1.5, 0.7, relabelled_losses=(2.5, 0.1))
    losses = losses_of(method, forget, Half(0.4, 0.2))
    size = sum(p.numel() for p in model.parameters())
    expected = (0.4 + 0.2) + 0.3 * (2.5 + 0.1) + 0.2 * size * 0.5**2
    assert total(losses).item() == pytest.approx(expected, 1e-6)


def test_an_adapter_by_hand():
    method, model = set_up(adapter=True, weight=0.2)
    perturb(model.model)
    layer = model.model[0]
    update = layer.scaling * layer.lora_B.detach() @ layer.lora_A.detach()
    losses = losses_of(method, Half(), Half())
    assert losses['loss_penalty'].item() == pytest.approx(
        0.2 * (update**2).sum().item(), 1e-6
    )


@pytest.mark.parametrize('adapter', [True, False])
def test_zero_at_the_anchor_with_a_zero_gradient(adapter):
    method, model = set_up(adapter, weight=10.0)
    loss = losses_of(method, Half(), Half())['loss_penalty']
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_the_pull_keeps_the_weights_near(task, adapter):
    distances = []
    for weight in (0.0, 1.0):
        method = dict(type='gslora_mm.L2', weight=weight)
        model = tiny_model(task, method, adapter)
        model.method.prepare(model, TinyDataset(task))
        log = train(model, tiny_batch(task), 10, lr=1e-2)
        assert log['loss'].isfinite()
        distances.append(model.method.drift.squared().item())
    assert 0 < distances[1] < distances[0]


@pytest.mark.parametrize('adapter', [LORA, None])
def test_a_resumed_step_has_the_same_anchor(adapter):
    models = []
    for _ in range(2):
        method = dict(type='gslora_mm.L2')
        models.append(tiny_model('classification', method, adapter))
        models[-1].method.prepare(models[-1], TinyDataset('classification'))
    first, second = models
    train(first, tiny_batch('classification'), 2)
    second.load_resume_state_dict(copy.deepcopy(first.resume_state_dict()))
    assert first.method.drift.squared() > 0
    assert torch.equal(
        first.method.drift.squared(), second.method.drift.squared()
    )


def test_the_anchor_is_not_saved():
    method, _ = set_up()
    assert not method.state_dict() and not list(method.parameters())


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(weight=-1), 'method.weight = -1'),
        (dict(weight=float('nan')), 'method.weight = nan'),
        (dict(weight='big'), "method.weight = 'big'"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        L2(**settings)
    assert named in str(error.value)
