import numpy as np
import pytest
import torch

from gslora_mm.methods import DER
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    Half,
    losses_of,
    taught,
    total,
)

KEPT = [1, 2, 3]  # class 0 is forgotten


def mse64(logits, teacher):
    s, t = (x.detach().double().numpy()[:, KEPT] for x in (logits, teacher))
    return np.mean((s - t) ** 2)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('seed', range(3))
def test_total_loss_against_float64(seed, activation):
    method = DER(beta=0.3, alpha=0.7)
    seen = taught(method)
    forget = Half(1.5, 0.2, relabelled_losses=(2.5, 0.4))
    retain = Half(
        0.6, 0.1, seed=seed, activation=activation, loss_background=0.25
    )
    mse = mse64(retain.logits, seen.logits)
    losses = losses_of(method, forget, retain)
    expected = 0.3 * (2.5 + 0.4) + 0.7 * mse + 0.1 + 0.25
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)
    assert losses['distance_retain'].item() == pytest.approx(mse, rel=1e-6)


def test_zero_at_the_teacher_and_not_off_it():
    method = DER()
    seen = taught(method)
    retain = Half()
    retain.logits = seen.logits.clone().requires_grad_()
    loss = losses_of(method, Half(), retain)['loss_retain']
    loss.backward()
    assert loss == 0 and not retain.logits.grad.any()
    retain = Half()
    loss = losses_of(method, Half(), retain)['loss_retain']
    loss.backward()
    assert loss > 0.01 and retain.logits.grad[:, KEPT].all()
    assert not retain.logits.grad[:, 0].any()


def test_the_number_of_images_does_not_matter():
    """Fault of the public code: a sum, for which the weight depends on it."""
    once = torch.randn(3, 4, dtype=torch.double)
    distances = []
    for rows in (once, torch.cat([once, once])):
        method, retain = DER(), Half(labels=[0] * len(rows))
        seen = taught(method, rows=len(rows))
        retain.logits = seen.logits + rows
        losses = losses_of(method, Half(), retain)
        distances.append(losses['distance_retain'])
    torch.testing.assert_close(*distances)


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(alpha=-1), 'method.alpha = -1'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        DER(**settings)
    assert named in str(error.value)
