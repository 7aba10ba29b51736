from types import SimpleNamespace

import pytest
import torch

from gslora_mm.methods import GSLoRA
from gslora_mm.models.losses import GroupSparsityLoss
from gslora_mm.utils import ConfigError


class Half:
    """A half batch with given losses."""

    def __init__(self, loss_cls, loss_rest):
        self.loss_cls = torch.tensor(loss_cls, requires_grad=True)
        self.loss_rest = torch.tensor(loss_rest, requires_grad=True)

    @property
    def loss(self):
        return self.loss_cls + self.loss_rest


def set_up(**settings):
    method = GSLoRA(**settings)
    groups = {
        'a': [torch.nn.Parameter(torch.tensor([3.0, 4.0]))],
        'b': [torch.nn.Parameter(torch.tensor([[12.0], [5.0]]))],
    }
    method.setup(SimpleNamespace(groups=groups))
    return method, groups


def losses_of(method, forget, retain):
    """All parts of a method's loss."""
    return {
        name: value
        for part in method.losses(forget, retain)
        for name, value in part.items()
    }


def total(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


def test_total_loss_by_hand():
    method, _ = set_up(beta=0.3, bound=5.0, alpha_s=0.01)
    losses = losses_of(method, Half(1.5, 0.7), Half(0.4, 0.2))
    expected = (0.4 + 0.2) + 0.3 * ((5.0 - 1.5) + 0.7) + 0.01 * (5 + 13)
    assert total(losses).item() == pytest.approx(expected, 1e-6)


def test_signs_of_the_gradients():
    """Classification is pushed up, boxes of the forget half go down."""
    method, _ = set_up(beta=0.3, bound=5.0)
    forget, retain = Half(1.5, 0.7), Half(0.4, 0.2)
    total(losses_of(method, forget, retain)).backward()
    assert forget.loss_cls.grad == pytest.approx(-0.3)
    assert forget.loss_rest.grad == pytest.approx(0.3)
    assert retain.loss_cls.grad == retain.loss_rest.grad == 1


def test_nothing_is_pushed_beyond_the_bound():
    method, _ = set_up(beta=0.3, bound=5.0)
    forget = Half(6.0, 0.7)
    losses = losses_of(method, forget, Half(0.4, 0.2))
    total(losses).backward()
    assert losses['loss_forget'] == 0
    assert forget.loss_cls.grad == 0


def test_alpha_s_waits_for_the_end_of_the_warmup():
    method, groups = set_up(alpha_s=0.5, warmup_iters=10)
    assert (
        losses_of(method, Half(1.0, 0.0), Half(1.0, 0.0))['loss_structure']
        == 0
    )
    method.iteration = 10
    losses = losses_of(method, Half(1.0, 0.0), Half(1.0, 0.0))
    assert losses['loss_structure'].item() == pytest.approx(0.5 * 18)


def test_warmup_in_epochs():
    """The longer of the two warm-ups counts."""
    method, _ = set_up(alpha_s=0.5, warmup_iters=10, warmup_epochs=3)
    method.iterations_per_epoch = 4
    method.iteration = 11
    assert method.current_alpha_s == 0
    method.iteration = 12
    assert method.current_alpha_s == 0.5


def test_proximal_keeps_the_structure_out_of_the_loss():
    method, groups = set_up(alpha_s=10.0, sparsity='proximal')
    parameters = [p for group in groups.values() for p in group]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    assert 'loss_structure' not in losses_of(
        method, Half(1.0, 0.0), Half(1.0, 0.0)
    )
    method.after_update(optimizer)
    assert torch.equal(groups['a'][0], torch.zeros(2))
    assert groups['b'][0].norm().item() == pytest.approx(3.0)


def test_proximal_waits_for_the_end_of_the_warmup():
    method, groups = set_up(alpha_s=10.0, sparsity='proximal', warmup_iters=5)
    optimizer = torch.optim.SGD(groups['a'] + groups['b'], lr=1.0)
    method.after_update(optimizer)
    assert groups['a'][0].norm() == 5


def test_a_skipped_optimizer_step_is_not_followed_by_a_proximal_one():
    method, groups = set_up(alpha_s=0.01, sparsity='proximal')
    parameters = [p for group in groups.values() for p in group]
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    method.after_update(optimizer)
    before = [p.detach().clone() for p in parameters]
    method.after_update(optimizer)  # as after an overflow
    for now, then in zip(parameters, before, strict=True):
        assert torch.equal(now, then)
    optimizer.step()
    stepped = [p.detach().clone() for p in parameters]
    method.after_update(optimizer)
    assert not torch.equal(parameters[0], stepped[0])


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(alpha_s=-1), 'method.alpha_s = -1'),
        (dict(beta=float('nan')), 'method.beta = nan'),
        (dict(beta=float('inf')), 'method.beta = inf'),
        (dict(bound=0), 'method.bound = 0'),
        (dict(beta='big'), "method.beta = 'big'"),
        (dict(warmup_iters=-1), 'method.warmup_iters = -1'),
        (dict(warmup_iters=2.5), 'method.warmup_iters = 2.5'),
        (dict(warmup_epochs=-1), 'method.warmup_epochs = -1'),
        (dict(sparsity='l1'), "method.sparsity = 'l1'"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        GSLoRA(**settings)
    assert named in str(error.value)


def test_needs_an_adapter():
    with pytest.raises(ConfigError, match='adapter'):
        GSLoRA().setup(SimpleNamespace(groups={}))


# Losses that a config replaces ----------------------------------------------


class SquareGap(torch.nn.Module):
    """Pushes up, with less force near the bound."""

    def __init__(self, bound, power=2):
        super().__init__()
        self.bound, self.power = bound, power

    def forward(self, loss):
        return (self.bound - loss).relu() ** self.power


class LargestNorm(torch.nn.Module):
    def forward(self, groups):
        return max(group[0].norm() for group in groups.values())


class SquaredNorms(GroupSparsityLoss):
    """A group sparsity, but not that of the proximal steps."""

    def forward(self, groups):
        return super().forward(groups) ** 2


def test_losses_may_be_replaced():
    method, _ = set_up(
        beta=0.3,
        bound=5.0,
        alpha_s=0.01,
        loss_forget=dict(type=SquareGap),
        loss_structure=dict(type=LargestNorm),
    )
    losses = losses_of(method, Half(1.5, 0.7), Half(0.4, 0.2))
    assert losses['loss_forget'].item() == pytest.approx(0.3 * 3.5**2)
    assert losses['loss_structure'].item() == pytest.approx(0.01 * 13)


def test_arguments_of_a_loss_come_from_its_config_first():
    config = dict(type=SquareGap, bound=2.5, power=1)
    method, _ = set_up(beta=1.0, bound=5.0, loss_forget=config)
    losses = losses_of(method, Half(1.5, 0.7), Half(0.4, 0.2))
    assert losses['loss_forget'].item() == pytest.approx(1.0)
    assert config == dict(type=SquareGap, bound=2.5, power=1)


def test_a_weight_of_the_structure_counts_for_proximal_steps_too():
    norms = []
    for settings in (
        dict(alpha_s=0.5),
        dict(
            alpha_s=1.0,
            loss_structure=dict(
                type='gslora_mm.GroupSparsityLoss', loss_weight=0.5
            ),
        ),
    ):
        method, groups = set_up(sparsity='proximal', **settings)
        parameters = [p for group in groups.values() for p in group]
        method.after_update(torch.optim.SGD(parameters, lr=1.0))
        norms.append(groups['a'][0].norm().item())
    assert norms[0] == norms[1] < 5


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(loss_structure=dict(type='gslora_mm.GroupSparsityLos')),
            'method.loss_structure: cannot be used: .*GroupSparsityLos',
        ),
        (
            dict(
                loss_forget=dict(type='gslora_mm.BoundedForgettingLoss', b=1)
            ),
            "method.loss_forget: cannot be used: .*argument 'b'",
        ),
        (
            dict(loss_forget='ReLuu'),
            'method.loss_forget: cannot be used: .*ReLuu',
        ),
        (dict(loss_forget=3), 'method.loss_forget: cannot be used: '),
        (
            dict(loss_structure=dict(type=LargestNorm), sparsity='proximal'),
            'method.loss_structure = .*GroupSparsityLoss; leave one',
        ),
        (
            dict(loss_structure=dict(type=SquaredNorms), sparsity='proximal'),
            'method.loss_structure = .*GroupSparsityLoss; leave one',
        ),
        (
            dict(
                loss_structure=dict(
                    type='gslora_mm.GroupSparsityLoss', loss_weight=-1
                )
            ),
            'method.loss_structure.loss_weight = -1: must be',
        ),
        (
            dict(
                loss_forget=dict(
                    type='gslora_mm.BoundedForgettingLoss', bound=0
                )
            ),
            'method.loss_forget.bound = 0: must be a finite number > 0',
        ),
    ],
)
def test_bad_losses_are_named(settings, message):
    with pytest.raises(ConfigError, match=f'(?s)^{message}'):
        GSLoRA(**settings)
