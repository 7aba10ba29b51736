import numpy as np
import pytest

from gslora_mm.methods import FDR
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    Half,
    losses_of,
    taught,
    total,
)

KEPT = [1, 2, 3]  # class 0 is forgotten


def distance64(logits, teacher, activation):
    """Mean over rows of the l2 distance of probabilities."""
    s, t = (x.detach().double().numpy()[:, KEPT] for x in (logits, teacher))
    if activation == 'softmax':
        q, p = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (s, t))
    else:
        q, p = (1 / (1 + np.exp(-x)) for x in (s, t))
    return np.sqrt(((p - q) ** 2).sum(1)).mean()


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('seed', range(3))
def test_total_loss_against_float64(seed, activation):
    method = FDR(beta=0.3, alpha=0.7)
    seen = taught(method)
    forget = Half(1.5, 0.2, relabelled_losses=(2.5, 0.4))
    retain = Half(0.6, 0.1, seed=seed, activation=activation)
    distance = distance64(retain.logits, seen.logits, activation)
    losses = losses_of(method, forget, retain)
    expected = 0.3 * (2.5 + 0.4) + 0.7 * distance + 0.1
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)
    assert losses['distance_retain'].item() == pytest.approx(distance, 1e-6)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_zero_at_the_teacher_and_not_off_it(activation):
    """At the kink the gradient is zero, not NaN: training starts there."""
    method = FDR()
    seen = taught(method)
    retain = Half(activation=activation)
    retain.logits = seen.logits.clone().requires_grad_()
    loss = losses_of(method, Half(), retain)['loss_retain']
    loss.backward()
    assert loss == 0 and not retain.logits.grad.any()
    retain = Half(activation=activation)
    loss = losses_of(method, Half(), retain)['loss_retain']
    loss.backward()
    assert loss > 0.01 and retain.logits.grad[:, KEPT].all()
    assert not retain.logits.grad[:, 0].any()


def test_it_measures_outputs_not_logits():
    """Fault of the public code. Shifted logits are the same outputs."""
    method, retain = FDR(), Half()
    logits = taught(method).logits
    distances = {}
    for retain.activation in ('softmax', 'sigmoid'):
        retain.logits = logits + 5
        losses = losses_of(method, Half(), retain)
        distances[retain.activation] = losses['distance_retain']
    assert distances['softmax'] < 1e-6
    assert distances['sigmoid'] > 0.1


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(alpha='much'), "method.alpha = 'much'"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        FDR(**settings)
    assert named in str(error.value)
