"""EWC: what the penalty is at the anchor, and how it is curved there."""

import pytest
import torch

from gslora_mm.methods import EWC
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import perturb
from .helpers import (
    Half,
    Regression,
    RegressionDataset,
    losses_of,
    of_cross_entropy,
    total,
)


def set_up(adapter=False, **settings):
    method, model = EWC(**settings), Regression(adapter)
    method.setup(model)
    method.prepare(model, RegressionDataset())
    return method, model


def fisher64(model):
    """Of W and b, in one row: mean of the squares of image gradients."""
    return model.image_gradients(of_cross_entropy).square().mean(0)


def test_loss_by_hand():
    method, model = set_up(beta=0.3, weight=7.0)
    fisher = fisher64(model)
    with torch.no_grad():
        model.model[0].weight += 0.5
        model.model[0].bias -= 0.2
    forget = Half(1.5, 0.7, relabelled_losses=(2.5, 0.1))
    losses = losses_of(method, forget, Half(0.4, 0.2))
    penalty = 0.5**2 * fisher[:20].sum() + 0.2**2 * fisher[20:].sum()
    expected = (0.4 + 0.2) + 0.3 * (2.5 + 0.1) + 7.0 / 2 * penalty.item()
    assert total(losses).item() == pytest.approx(expected, 1e-6)


def test_the_hessian_is_the_fisher():
    """lambda F on the diagonal, and nothing beside it."""
    method, model = set_up(weight=7.0)
    fisher = fisher64(model)
    parameters = list(model.parameters())
    loss = losses_of(method, Half(), Half())['loss_penalty']
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    rows = [
        torch.cat(
            [
                second.flatten()
                for second in torch.autograd.grad(
                    entry,
                    parameters,
                    retain_graph=True,
                    materialize_grads=True,
                )
            ]
        )
        for gradient in gradients
        for entry in gradient.flatten()
    ]
    torch.testing.assert_close(
        torch.stack(rows), torch.diag(7.0 * fisher), rtol=1e-6, atol=1e-9
    )


def test_an_adapter_is_held_by_the_fisher_of_the_merged_weight():
    method, model = set_up(adapter=True, weight=7.0)
    perturb(model.model)
    update = model.model[0].delta_weight().detach().flatten()
    expected = 7.0 / 2 * (fisher64(model)[:20] * update**2).sum().item()
    found = losses_of(method, Half(), Half())['loss_penalty']
    assert found.item() == pytest.approx(expected, 1e-6)


def test_the_fisher_is_not_saved():
    method, _ = set_up()
    assert not method.state_dict() and not list(method.parameters())


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match='method.weight = -1.*must be'):
        EWC(weight=-1)
