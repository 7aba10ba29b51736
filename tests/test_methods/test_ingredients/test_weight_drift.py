"""How far the weights are from where they were, and what they matter."""

import copy

import pytest
import torch

from gslora_mm.lora import lora_layers
from gslora_mm.methods.ingredients.weight_drift import WeightDrift
from tests.test_lora.helpers import perturb
from tests.test_methods.helpers import (
    LORA,
    TASKS,
    Regression,
    RegressionDataset,
    TinyDataset,
    of_cross_entropy,
    tiny_batch,
    tiny_model,
    train,
)

FINE_TUNE = dict(type='gslora_mm.FineTune')
ADAPTERS = [LORA, None]


def loss_of(half):
    return half.loss


# Drift ----------------------------------------------------------------------


@pytest.mark.parametrize('adapter', ADAPTERS)
@pytest.mark.parametrize('task', TASKS)
def test_nothing_has_moved_at_the_start(task, adapter):
    model = tiny_model(task, FINE_TUNE, adapter)
    drift = WeightDrift(model)
    assert all(not value.any() for value in drift.drift().values())
    assert drift.squared() == 0
    train(model, tiny_batch(task, role='retain'), 2)
    assert drift.squared() > 0


def test_whole_models_drift_by_parameter():
    model = tiny_model('classification', FINE_TUNE, None)
    frozen, *_ = (p for p in model.model.parameters())
    frozen.requires_grad_(False)
    before = copy.deepcopy(dict(model.model.named_parameters()))
    drift = WeightDrift(model)
    train(model, tiny_batch('classification', role='retain'))
    found = drift.drift()
    for name, parameter in model.model.named_parameters():
        if parameter is frozen:
            assert name not in found
        else:
            assert torch.equal(found[name], parameter - before[name])


def test_an_adapter_is_what_has_moved():
    model = tiny_model('classification', FINE_TUNE, LORA)
    drift = WeightDrift(model)
    perturb(model.model)
    found = drift.drift()
    layers = lora_layers(model.model)
    assert found.keys() == layers.keys()
    for name, layer in layers.items():
        moved = layer.merged_weight() - layer.stock_weight
        torch.testing.assert_close(found[name], moved, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize('adapter', [True, False])
def test_squared_drift_by_hand(adapter):
    model = Regression(adapter)
    drift = WeightDrift(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    moved = drift.drift()
    importance = {k: torch.rand_like(v) for k, v in moved.items()}
    expected = sum(
        (importance[k] * v.detach() ** 2).sum().item()
        for k, v in moved.items()
    )
    plain = sum((v.detach() ** 2).sum().item() for v in moved.values())
    squared = drift.squared(importance)
    assert squared.item() == pytest.approx(expected, rel=1e-12)
    assert drift.squared().item() == pytest.approx(plain, rel=1e-12)
    squared.backward()
    for parameter in model.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


def test_mixed_precision_rounds_nothing():
    model = tiny_model('classification', FINE_TUNE, LORA)
    drift = WeightDrift(model)
    perturb(model.model)
    expected = drift.squared()
    with torch.autocast('cpu', torch.bfloat16):
        assert drift.squared() == expected


# Importance -----------------------------------------------------------------


@pytest.mark.parametrize('adapter', [True, False])
def test_importance_by_hand(adapter):
    """Mean over the retain images of the squares of their own gradients.

    With an adapter as without one: it is about the weight W.
    """
    model, dataset = Regression(adapter), RegressionDataset()
    expected = model.image_gradients(of_cross_entropy).square().mean(0)
    found = WeightDrift(model).importance(dataset, loss_of, torch.square)
    assert list(found) == (['0'] if adapter else ['0.weight', '0.bias'])
    assert all(value.dtype == torch.float for value in found.values())
    values = torch.cat([value.flatten() for value in found.values()])
    torch.testing.assert_close(
        values.double(), expected[: len(values)], rtol=1e-6, atol=1e-9
    )


def test_an_adapter_in_use_does_not_count():
    """Importances are those of the model that the step began with."""
    model, dataset = Regression(adapter=True), RegressionDataset()
    drift = WeightDrift(model)
    expected = drift.importance(dataset, loss_of, torch.square)['0']
    perturb(model.model)
    found = drift.importance(dataset, loss_of, torch.square)['0']
    assert torch.equal(found, expected)


@pytest.mark.parametrize('adapter', [True, False])
def test_images_are_asked_one_by_one(adapter):
    model, dataset = Regression(adapter), RegressionDataset()
    sizes, read = [], model.task.read

    def count(stock, batch):
        sizes.append(len(batch['inputs']))
        return read(stock, batch)

    model.task.read = count
    WeightDrift(model).importance(dataset, loss_of, torch.square)
    assert sizes == [1, 1, 1]
    assert dataset.asked == [2, 3, 4]  # not those to forget


@pytest.mark.parametrize('adapter', ADAPTERS)
@pytest.mark.parametrize('task', TASKS)
def test_the_model_is_put_back(task, adapter):
    model = tiny_model(task, FINE_TUNE, adapter)
    if adapter:
        perturb(model.model)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    training = {n for n, m in model.named_modules() if m.training}
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    found = WeightDrift(model).importance(
        TinyDataset(task), loss_of, torch.square
    )
    assert all(v.isfinite().all() for v in found.values())
    assert any(v.any() for v in found.values())
    assert not any(v.requires_grad for v in found.values())
    assert frozen == {
        n for n, p in model.named_parameters() if not p.requires_grad
    }
    assert training == {n for n, m in model.named_modules() if m.training}
    assert all(layer.enabled for layer in lora_layers(model).values())
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.rand(2), expected)


def test_the_model_is_put_back_after_an_error():
    model, dataset = Regression(adapter=True), RegressionDataset()
    with pytest.raises(ZeroDivisionError):
        WeightDrift(model).importance(dataset, lambda _: 1 / 0, torch.square)
    assert model.training and model.model[0].enabled
    assert not model.model[0].stock_weight.requires_grad


def test_weights_that_no_image_uses_do_not_matter():
    model, dataset = Regression(), RegressionDataset()
    model.model.unused = torch.nn.Linear(2, 2)
    model.model.unused.forward = lambda x: x
    found = WeightDrift(model).importance(dataset, loss_of, torch.square)
    assert not found['unused.weight'].any() and found['0.weight'].any()
