import numpy as np
import pytest
import torch

from gslora_mm.methods import LIRF
from gslora_mm.methods.lirf import map_distance
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    LORA,
    TASKS,
    Half,
    before_and_after,
    losses_of,
    taught,
    total,
)
from tests.test_methods.test_lwf import KEPT, kl64


def at64(features, others):
    """Mean over rows of the squared distance of attention maps."""
    f, g = (x.detach().double().numpy() ** 2 for x in (features, others))
    f, g = (x / np.sqrt((x**2).sum(1, keepdims=True)) for x in (f, g))
    return ((f - g) ** 2).sum(1).mean()


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('seed', range(3))
def test_total_loss_against_float64(seed, activation):
    method = LIRF(beta=0.3, a=0.2, w_kp=4.0, w_at=0.7, temperature=5.0)
    seen = taught(method)
    forget = Half(
        1.5, 0.2, seed=seed, activation=activation, relabelled_losses=(2, 0.4)
    )
    push = at64(forget.features, seen.features)
    kl = kl64(forget.logits, seen.logits, 5.0, activation)
    losses = losses_of(method, forget, Half(0.6, 0.1))
    removal = 0.8 * 2.4 - 0.7 * push + 4.0 * 0.2 * 5.0**2 * kl
    expected = (0.6 + 0.1) + 0.3 * removal
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)
    assert losses['push'].item() == pytest.approx(push, rel=1e-6)


def test_an_object_may_become_background():
    """What the teacher says of that, behind the classes, does not hold."""
    method = LIRF()
    taught(method, num_classes=5)
    forget = Half(num_classes=5)
    losses_of(method, forget, Half())['loss_preserve'].backward()
    assert forget.logits.grad[:, KEPT].all()
    assert not forget.logits.grad[:, [0, 4]].any()


def test_features_are_pushed_away_and_other_scores_kept():
    """Of the forget half, a step down the loss."""
    method = LIRF()
    seen = taught(method)
    forget = Half()
    before = losses_of(method, forget, Half())
    total(before).backward()
    assert not forget.logits.grad[:, 0].any()
    assert forget.logits.grad[:, KEPT].all()
    forget.features = (forget.features - forget.features.grad).detach()
    forget.logits = (forget.logits - 0.1 * forget.logits.grad).detach()
    after = losses_of(method, forget, Half())
    assert after['push'] > before['push']
    assert after['loss_preserve'] < before['loss_preserve']
    forget.logits = seen.logits
    assert losses_of(method, forget, Half())['loss_preserve'] == 0


def test_the_push_has_an_end():
    """Maps without a common channel are two apart, whatever their scale."""
    one = torch.tensor([[3.0, 0.0, 1.0, 0.0]])
    other = torch.tensor([[0.0, -50.0, 0.0, 9.0]])
    assert map_distance(one, other).item() == pytest.approx(2)
    assert map_distance(one, -7 * one).item() == pytest.approx(0, abs=1e-6)


def test_features_of_zero_have_a_gradient():
    features = torch.zeros(2, 4, requires_grad=True)
    map_distance(features, torch.ones(2, 4)).backward()
    assert features.grad.isfinite().all()


def test_the_retain_half_is_replayed_alone():
    method = LIRF()
    taught(method)
    retain = Half()
    total(losses_of(method, Half(), retain)).backward()
    assert retain.loss_cls.grad == retain.loss_rest.grad == 1
    assert retain.logits.grad is None and retain.features.grad is None


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_without_rows_there_is_nothing_to_remove(activation):
    method = LIRF()
    taught(method, rows=0)
    forget = Half(labels=(), activation=activation)
    part = method.removal(forget)
    total(part).backward()
    assert total(part) == 0
    assert forget.logits.grad.shape == (0, 4)
    assert forget.features.grad.shape == (0, 6)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_the_push_moves_the_features_of_a_model(task, adapter):
    before, after = before_and_after(
        'LIRF', task, adapter, 'push', beta=1e3, w_kp=0.0, a=1.0
    )
    assert 0 < before < after


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(a=1.5), 'method.a = 1.5'),
        (dict(a=-0.5), 'method.a = -0.5'),
        (dict(w_kp=-1), 'method.w_kp = -1'),
        (dict(w_at=float('nan')), 'method.w_at = nan'),
        (dict(temperature=0), 'method.temperature = 0'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        LIRF(**settings)
    assert named in str(error.value)
