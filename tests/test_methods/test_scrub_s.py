import copy

import pytest
import torch
from torch import nn

from gslora_mm.methods import SCRUB, SCRUBS
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    LORA,
    TASKS,
    FakeModel,
    Fixed,
    Half,
    TinyDataset,
    losses_of,
    moved,
    taught,
    tiny_batch,
    tiny_model,
    total,
    train,
)


class Layer(Fixed):
    """A teacher by hand with two tensors that are trained, one that is not."""

    def __init__(self, seen):
        super().__init__(*seen)
        self.linear = nn.Linear(2, 3).double()
        self.frozen = nn.Linear(2, 3).double().requires_grad_(False)


def set_up(**settings):
    """A method, and the layer that it holds."""
    seen = taught(SCRUB())
    method = SCRUBS(**settings)
    torch.manual_seed(0)
    layer = Layer(seen)
    model = FakeModel(layer, groups=dict(a=[]))
    method.setup(model)
    method.prepare(model, TinyDataset('classification'))
    return method, layer


def move(layer, by=1.0):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += by


@pytest.mark.parametrize('iteration', [0, 10_000])
def test_loss_by_hand(iteration):
    """Both phases are those of SCRUB, and held to the average."""
    plain = SCRUB(alpha=0.3, gamma=0.7)
    taught(plain)
    method, layer = set_up(alpha=0.3, gamma=0.7, smoothing=0.25)
    move(layer, 2.0)
    plain.iteration = method.iteration = iteration
    losses = losses_of(method, Half(), Half(seed=1))
    expected = total(losses_of(plain, Half(), Half(seed=1))).item()
    # Six entries of a weight and three of a bias, each moved by two.
    expected += 0.25 * 2 * (6**0.5 + 3**0.5)
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)


def test_the_pull_is_towards_the_average():
    method, layer = set_up(smoothing=0.25)
    losses_of(method, Half(), Half())['loss_smoothing'].backward()
    # Where training starts, it is the average: no NaN from the root.
    assert not layer.linear.bias.grad.any()
    move(layer)
    losses_of(method, Half(), Half())['loss_smoothing'].backward()
    expected = torch.full((3,), 0.25 / 3**0.5).double()
    torch.testing.assert_close(layer.linear.bias.grad, expected)
    assert layer.frozen.bias.grad is None


def test_the_average_takes_the_weights_in_once_an_epoch():
    method, layer = set_up(msteps=1, decay=0.8)
    method.iterations_per_epoch = 3  # and two of maximisation in the first
    start = layer.linear.bias.detach().clone()
    expected, found = torch.zeros(3).double(), []
    for iteration in range(9):
        method.iteration = iteration
        move(layer)
        method.after_update(None)
        found.append((method.average_1 - start).mean().item())
    # Epochs end after iterations 4 and 7.
    first = 0.2 * 5
    second = 0.8 * first + 0.2 * 8
    expected = [0.0] * 4 + [first] * 3 + [second] * 2
    assert found == pytest.approx(expected)


def test_an_epoch_that_ends_between_two_updates_counts():
    method, layer = set_up(msteps=1, decay=0.8)
    method.iterations_per_epoch = 3
    move(layer)
    for iteration in (3, 5, 6):  # with gradients accumulated
        method.iteration = iteration
        method.after_update(None)
    assert method.epochs_averaged == 1
    bias = layer.linear.bias
    torch.testing.assert_close(method.average_1, bias - 0.8)


def test_a_resumed_step_goes_on_with_the_average():
    method, layer = set_up(msteps=1)
    method.iterations_per_epoch = 3
    move(layer)
    method.iteration = 4
    method.after_update(None)
    state = copy.deepcopy(method.state_dict())
    assert set(state) == {'average_0', 'average_1', 'epochs_averaged'}
    other, _ = set_up(msteps=1)
    other.iterations_per_epoch = 3
    other.load_state_dict(state)
    other.iteration = 5
    other.after_update(None)  # not once more
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_trains_a_model(task, adapter):
    distances = []
    for smoothing in (0.0, 1.0):
        config = dict(type='gslora_mm.SCRUBS', smoothing=smoothing, msteps=1)
        model = tiny_model(task, config, adapter)
        method = model.method
        start = [p.detach().clone() for p in method.trained]
        assert len(start) == sum(p.requires_grad for p in model.parameters())
        method.prepare(model, TinyDataset(task))
        moved(model)
        log = train(model, tiny_batch(task), 4, lr=1e-2)
        assert log['loss'].isfinite()
        assert method.epochs_averaged == 3
        pairs = zip(method.trained, start, strict=True)
        distances.append(sum((p - s).norm().item() for p, s in pairs))
    assert distances[1] < distances[0]


def test_the_average_of_an_adapter_alone_is_saved():
    model = tiny_model('detection', dict(type='gslora_mm.SCRUBS'))
    keys = model.resume_state_dict()
    averages = [key for key in keys if 'average_' in key]
    adapter = [key for key in keys if 'lora_' in key]
    assert len(averages) == len(adapter) > 0
    assert len(keys) == 2 * len(adapter) + 1


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(gamma=-1), 'method.gamma = -1'),
        (dict(smoothing=-1), 'method.smoothing = -1'),
        (dict(decay=1.5), 'method.decay = 1.5'),
        (dict(decay=-0.5), 'method.decay = -0.5'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        SCRUBS(**settings)
    assert named in str(error.value)
