"""Random drop: a share of every tensor is zero, then fine-tuning."""

import copy

import pytest
import torch

from gslora_mm.methods import RandomDrop
from gslora_mm.utils import ConfigError
from .helpers import (
    LORA,
    TASKS,
    FakeModel,
    Half,
    Unread,
    losses_of,
    tiny_batch,
    tiny_model,
    train,
)

DROP = dict(type='gslora_mm.RandomDrop')


def linear(size=1000, frozen=False):
    """A model of two tensors without a zero."""
    model = FakeModel(torch.nn.Linear(size, size))
    for parameter in model.model.parameters():
        parameter.data.fill_(3.0)
        parameter.requires_grad_(not frozen)
    return model


def dropped(model):
    """Which weights are zero, all others being as they were."""
    values = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert set(values.unique().tolist()) <= {0.0, 3.0}
    return values == 0


def test_loss_by_hand():
    losses = losses_of(RandomDrop(), Unread(), Half(0.4, 0.2))
    assert losses.keys() == {'loss_retain'}
    assert losses['loss_retain'].item() == pytest.approx(0.6, 1e-6)
    assert RandomDrop.needs == ('retain',)


def test_the_share_of_each_tensor_is_uniform_up_to_the_largest():
    shares = []
    for seed in range(200):
        model = linear(20)
        RandomDrop(max_share=0.5, seed=seed).setup(model)
        shares.append(dropped(model.model)[:400].float().mean().item())
    assert max(shares) <= 0.5
    assert max(shares) > 0.47 and min(shares) < 0.03
    assert sum(shares) / 200 == pytest.approx(0.25, abs=0.03)


def test_every_weight_may_be_dropped():
    times = torch.zeros(420)
    for seed in range(200):
        model = linear(20)
        RandomDrop(max_share=1.0, seed=seed).setup(model)
        times += dropped(model.model)
    assert times.min() > 50 and times.max() < 150


def test_nothing_and_everything():
    for share, low, high in ((0.0, 0, 0), (1.0, 1, 1_001_000)):
        model = linear()
        RandomDrop(max_share=share).setup(model)
        assert low <= dropped(model.model).sum() <= high


def test_the_draw_follows_from_the_seed_alone():
    masks = []
    for global_seed, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(global_seed)
        expected = torch.rand(2)
        torch.manual_seed(global_seed)
        model = linear(20)
        torch.manual_seed(global_seed)
        RandomDrop(seed=seed).setup(model)
        assert torch.equal(torch.rand(2), expected)
        masks.append(dropped(model.model))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_frozen_weights_are_kept():
    model = linear(20, frozen=True)
    RandomDrop(max_share=1.0).setup(model)
    assert not dropped(model.model).any()


@pytest.mark.parametrize('task', TASKS)
def test_a_step_begins_with_the_drop_and_survives_a_resume(task):
    plain = tiny_model(task, dict(type='gslora_mm.FineTune'), None)
    first, second = (tiny_model(task, DROP, None) for _ in range(2))
    lost = 0
    for name, value in first.model.named_parameters():
        old = plain.model.get_parameter(name)
        lost += (old != value).sum()
        assert ((value == old) | (value == 0)).all()
        assert torch.equal(value, second.model.get_parameter(name))
    assert lost > 0
    batch = tiny_batch(task, role='retain')
    start = copy.deepcopy(second.state_dict())
    assert train(first, batch, 2)['loss'].isfinite()
    second.load_resume_state_dict(first.resume_state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert any(
        not torch.equal(value, start[name])
        for name, value in first.state_dict().items()
    )


def test_refuses_an_adapter():
    with pytest.raises(ConfigError, match='^adapter: must be None'):
        tiny_model('classification', DROP, LORA)


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(max_share=1.1), 'method.max_share = 1.1'),
        (dict(max_share=-0.1), 'method.max_share = -0.1'),
        (dict(max_share='all'), "method.max_share = 'all'"),
        (dict(seed=-1), 'method.seed = -1'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        RandomDrop(**settings)
    assert named in str(error.value)
