import pytest
import torch

from gslora_mm.methods import DER, DERPP
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    Half,
    losses_of,
    taught,
    total,
)

KEPT = [1, 2, 3]  # class 0 is forgotten


@pytest.mark.parametrize('seed', range(3))
def test_total_loss_against_float64(seed):
    method = DERPP(beta=0.3, alpha=0.7, gamma=0.4)
    seen = taught(method)
    forget = Half(1.5, 0.2, relabelled_losses=(2.5, 0.4))
    # The background is part of the 0.6.
    retain = Half(0.6, 0.1, seed=seed, loss_background=0.25)
    s, t = (x.detach()[:, KEPT].numpy() for x in (retain.logits, seen.logits))
    mse = ((s - t) ** 2).mean()
    expected = 0.3 * (2.5 + 0.4) + 0.7 * mse + 0.4 * 0.6 + 0.1
    losses = losses_of(method, forget, retain)
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)


def test_it_is_der_with_the_labels_of_the_retain_half():
    losses = []
    for method in (DER(), DERPP(gamma=0.0), DERPP(gamma=0.4)):
        taught(method)
        retain = Half(0.6, 0.1)
        losses.append(total(losses_of(method, Half(), retain)))
        losses[-1].backward()
    assert torch.equal(losses[0], losses[1])
    assert (losses[2] - losses[0]).item() == pytest.approx(0.4 * 0.6)
    assert retain.loss_cls.grad == 0.4 and retain.loss_rest.grad == 1


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(alpha=-1), 'method.alpha = -1'),
        (dict(gamma=float('inf')), 'method.gamma = inf'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        DERPP(**settings)
    assert named in str(error.value)
