"""Gradient ascent: up, and never silently to infinity."""

import math
from types import SimpleNamespace

import pytest

from gslora_mm.methods import GradientAscent
from gslora_mm.training.hooks import MethodHook, NonFiniteLossError
from gslora_mm.utils import ConfigError
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

ASCENT = dict(type='gslora_mm.GradientAscent')


@pytest.mark.parametrize(
    ('bound', 'expected'), [(None, -1.5), (5.0, 3.5), (1.0, 0.0)]
)
def test_loss_by_hand(bound, expected):
    losses = losses_of(GradientAscent(bound=bound), Half(1.5, 0.7), Unread())
    assert total(losses).item() == pytest.approx(expected, 1e-6)
    assert losses['ce_forget'].item() == pytest.approx(1.5, 1e-6)


@pytest.mark.parametrize(('bound', 'slope'), [(None, -1), (5.0, -1), (1.0, 0)])
def test_classification_goes_up_and_boxes_are_left_alone(bound, slope):
    forget = Half(1.5, 0.7)
    total(losses_of(GradientAscent(bound=bound), forget, Unread())).backward()
    assert forget.loss_cls.grad == slope
    assert forget.loss_rest.grad is None


def test_only_forget_images_are_read():
    assert GradientAscent.needs == ('forget',)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_the_forget_loss_rises(task, adapter):
    model = tiny_model(task, ASCENT, adapter)
    batch = tiny_batch(task, role='forget')
    ce = train(model, batch, lr=0)['ce_forget']
    train(model, batch, 10)
    assert train(model, batch, lr=0)['ce_forget'] > ce


def test_a_runaway_ends_in_an_error():
    """Not in a model full of NaN."""
    model = tiny_model('classification', ASCENT, None)
    batch = tiny_batch('classification', role='forget')
    runner = SimpleNamespace(
        iter=0,
        max_iters=50,
        work_dir='step_01',
        model=model,
        optim_wrapper=SimpleNamespace(
            should_update=lambda: True, optimizer=None
        ),
    )
    hook, losses = MethodHook(), []
    with pytest.raises(NonFiniteLossError, match='method.bound'):
        for _ in range(runner.max_iters):
            log = train(model, batch, lr=1e20)
            losses.append(log['loss'].item())
            hook.after_train_iter(runner, 0, outputs=log)
    assert not math.isfinite(losses[-1])
    assert all(map(math.isfinite, losses[:-1]))


@pytest.mark.parametrize('bound', [0, -1.0, math.nan, 'high'])
def test_bad_settings_are_named(bound):
    with pytest.raises(ConfigError, match='must be') as error:
        GradientAscent(bound=bound)
    assert f'method.bound = {bound!r}' in str(error.value)
