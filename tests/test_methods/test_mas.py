"""MAS: weights that the outputs hang on are held."""

import pytest
import torch

from gslora_mm.methods import MAS
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import perturb
from .helpers import (
    Half,
    Regression,
    RegressionDataset,
    TinyDataset,
    losses_of,
    tiny_model,
    total,
)

MAS_METHOD = dict(type='gslora_mm.MAS', weight=0.01)


def set_up(adapter=False, **settings):
    method, model = MAS(**settings), Regression(adapter)
    method.setup(model)
    method.prepare(model, RegressionDataset())
    return method, model


def importance64(model):
    """Of W and b, in one row: mean size of the gradients of |z|^2."""
    return model.image_gradients(lambda z, label: 2 * z).abs().mean(0)


def test_loss_by_hand():
    method, model = set_up(beta=0.3, weight=7.0)
    omega = importance64(model)
    with torch.no_grad():
        model.model[0].weight += 0.5
        model.model[0].bias -= 0.2
    forget = Half(1.5, 0.7, relabelled_losses=(2.5, 0.1))
    losses = losses_of(method, forget, Half(0.4, 0.2))
    penalty = 0.5**2 * omega[:20].sum() + 0.2**2 * omega[20:].sum()
    expected = (0.4 + 0.2) + 0.3 * (2.5 + 0.1) + 7.0 * penalty.item()
    assert total(losses).item() == pytest.approx(expected, 1e-6)


def test_an_adapter_is_held_by_what_the_merged_weight_matters():
    method, model = set_up(adapter=True, weight=7.0)
    perturb(model.model)
    update = model.model[0].delta_weight().detach().flatten()
    expected = 7.0 * (importance64(model)[:20] * update**2).sum().item()
    found = losses_of(method, Half(), Half())['loss_penalty']
    assert found.item() == pytest.approx(expected, 1e-6)


def penalty_of(method):
    return losses_of(method, Half(), Half())['loss_penalty']


def test_labels_of_a_classifier_do_not_matter():
    penalties = []
    for shift in (0, 1):
        method, model, dataset = MAS(), Regression(), RegressionDataset()
        dataset.samples = [(k + shift) % 4 for k in dataset.samples]
        method.prepare(model, dataset)
        for parameter in model.parameters():
            parameter.data += 0.5
        penalties.append(penalty_of(method))
    assert penalties[0] == penalties[1] > 0


def test_images_without_an_object_count_as_zero():
    model = tiny_model('detection', MAS_METHOD)
    dataset = TinyDataset('detection')
    perturb(model.model)
    penalties = []
    for sample in dataset.samples[2:]:
        sample.gt_instances = sample.gt_instances[:0]
        model.method.prepare(model, dataset)
        penalties.append(penalty_of(model.method))
    assert penalties[0] > penalties[1] > penalties[2] == 0


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match='method.weight = -1.*must be'):
        MAS(weight=-1)
