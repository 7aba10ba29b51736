import numpy as np
import pytest
import torch

from gslora_mm.methods import LwF
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    Half,
    losses_of,
    taught,
    total,
)

KEPT = [1, 2, 3]  # class 0 is forgotten


def kl64(logits, teacher, temperature, activation, classes=KEPT):
    """Mean over rows of KL(teacher || student), from probabilities."""
    s, t = (
        x.detach().double().numpy()[:, classes] / temperature
        for x in (logits, teacher)
    )
    if activation == 'softmax':
        q, p = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (s, t))
        kl = p * np.log(p / q)
    else:
        q, p = (1 / (1 + np.exp(-x)) for x in (s, t))
        kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return kl.sum(1).mean()


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('temperature', [2.0, 0.5])
def test_total_loss_against_float64(temperature, activation):
    method = LwF(beta=0.3, alpha=0.7, temperature=temperature)
    seen = taught(method)
    forget = Half(1.5, 0.2, relabelled_losses=(2.5, 0.4))
    retain = Half(0.6, 0.1, seed=1, activation=activation)
    kl = kl64(retain.logits, seen.logits, temperature, activation)
    losses = losses_of(method, forget, retain)
    expected = 0.3 * (2.5 + 0.4) + (0.6 + 0.1) + 0.7 * kl
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)
    assert losses['distance_retain'].item() == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_zero_at_the_teacher_and_not_off_it(activation):
    """Fault 4 of the public code: zero everywhere, so that nothing is kept."""
    method = LwF()
    seen = taught(method)
    retain = Half(activation=activation)
    retain.logits = seen.logits.clone().requires_grad_()
    part = losses_of(method, Half(), retain)
    part['loss_retain'].backward()
    assert part['distance_retain'] == 0
    assert retain.logits.grad.abs().max() < 1e-7
    retain = Half(activation=activation)
    before = losses_of(method, Half(), retain)
    before['loss_retain'].backward()
    assert before['distance_retain'] > 0.01
    assert retain.logits.grad[:, KEPT].all()
    retain.logits = (retain.logits - retain.logits.grad).detach()
    after = losses_of(method, Half(), retain)
    assert after['distance_retain'] < before['distance_retain']


def test_the_teacher_says_nothing_of_the_classes_to_forget():
    method = LwF()
    taught(method)
    retain = Half()
    losses_of(method, Half(), retain)['loss_retain'].backward()
    assert not retain.logits.grad[:, 0].any()
    other = Half()
    other.logits.data[:, 0] += 100
    assert torch.equal(
        losses_of(method, Half(), other)['distance_retain'],
        losses_of(method, Half(), retain)['distance_retain'],
    )


def test_the_forget_half_is_not_held_to_the_teacher():
    method = LwF()
    taught(method)
    forget = Half()
    total(losses_of(method, forget, Half())).backward()
    assert forget.logits.grad is None


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(alpha=float('nan')), 'method.alpha = nan'),
        (dict(temperature=0), 'method.temperature = 0'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        LwF(**settings)
    assert named in str(error.value)
