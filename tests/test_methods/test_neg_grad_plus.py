"""NegGrad+: up here, down there."""

import math

import pytest

from gslora_mm.methods import NegGradPlus
from gslora_mm.utils import ConfigError
from .helpers import (
    LORA,
    TASKS,
    Half,
    losses_of,
    tiny_batch,
    tiny_model,
    total,
    train,
)


def test_loss_by_hand():
    losses = losses_of(NegGradPlus(alpha=0.9), Half(1.5, 0.7), Half(0.4, 0.2))
    expected = 0.9 * (0.4 + 0.2) - 0.1 * 1.5
    assert total(losses).item() == pytest.approx(expected, 1e-6)
    assert losses['ce_forget'].item() == pytest.approx(1.5, 1e-6)


def test_signs_of_the_gradients():
    forget, retain = Half(1.5, 0.7), Half(0.4, 0.2)
    total(losses_of(NegGradPlus(alpha=0.9), forget, retain)).backward()
    assert forget.loss_cls.grad.item() == pytest.approx(-0.1)
    assert forget.loss_rest.grad is None
    for loss in (retain.loss_cls, retain.loss_rest):
        assert loss.grad.item() == pytest.approx(0.9)


def test_each_half_has_a_part_of_its_own():
    """So that only one of them is in memory at a time."""
    parts = list(NegGradPlus().losses(Half(), Half()))
    assert [sorted(k for k in part if 'loss' in k) for part in parts] == [
        ['loss_forget'],
        ['loss_retain'],
    ]


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_one_rises_and_the_other_falls(task, adapter):
    method = dict(type='gslora_mm.NegGradPlus', alpha=0.6)
    model = tiny_model(task, method, adapter)
    batch = tiny_batch(task)
    before = train(model, batch, lr=0)
    train(model, batch, 10)
    after = train(model, batch, lr=0)
    assert after['ce_forget'] > before['ce_forget']
    assert after['loss_retain'] < before['loss_retain']


@pytest.mark.parametrize('alpha', [0, 1, 1.5, math.nan, 'half'])
def test_bad_settings_are_named(alpha):
    with pytest.raises(ConfigError, match='must be') as error:
        NegGradPlus(alpha=alpha)
    assert f'method.alpha = {alpha!r}' in str(error.value)
