import math

import numpy as np
import pytest
import torch

from gslora_mm.models.losses import (
    BoundedForgettingLoss,
    GroupSparsityLoss,
    PrototypeLoss,
    RelativePrototypeLoss,
    bounded_forgetting_loss,
    distillation_loss,
    group_norm,
    group_sparsity_loss,
    prototype_loss,
    relative_prototype_loss,
)
from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError


def test_group_sparsity_is_the_sum_of_group_norms():
    groups = {
        'a': [torch.tensor([[3.0]]), torch.tensor([[4.0]])],
        'b': [torch.tensor([5.0, 12.0])],
    }
    assert group_sparsity_loss(groups) == pytest.approx(5 + 13)
    assert group_sparsity_loss(groups.values()) == pytest.approx(18)


def test_group_sparsity_against_float64():
    generator = torch.Generator().manual_seed(0)
    groups = [
        [torch.randn(8, 5, generator=generator) for _ in range(4)]
        for _ in range(3)
    ]
    expected = sum(
        math.sqrt(sum(float((t.double() ** 2).sum()) for t in group))
        for group in groups
    )
    assert float(group_sparsity_loss(groups)) == pytest.approx(expected, 1e-6)


def test_group_sparsity_gradient_is_the_unit_vector():
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    y = torch.tensor([[12.0]], requires_grad=True)
    group_sparsity_loss([[x, y]]).backward()
    assert torch.allclose(x.grad, torch.tensor([3 / 13, 4 / 13]))
    assert torch.allclose(y.grad, torch.tensor([[12 / 13]]))


def test_a_zero_group_has_a_zero_gradient():
    """A square root of a sum of squares would give NaN here."""
    x = torch.zeros(3, requires_grad=True)
    y = torch.ones(2, requires_grad=True)
    group_sparsity_loss([[x], [y]]).backward()
    assert torch.equal(x.grad, torch.zeros(3))
    assert group_norm([x]) == 0


def test_no_group_is_an_error():
    with pytest.raises(ValueError, match='at least one group'):
        group_sparsity_loss([])


@pytest.mark.parametrize(
    ('value', 'expected', 'slope'),
    [(2.0, 3.0, -1.0), (5.0, 0.0, 0.0), (7.0, 0.0, 0.0)],
)
def test_bounded_forgetting(value, expected, slope):
    loss = torch.tensor(value, requires_grad=True)
    bounded = bounded_forgetting_loss(loss, 5.0)
    bounded.backward()
    assert bounded.item() == expected
    assert loss.grad.item() == slope


def test_bound_must_be_positive():
    with pytest.raises(ValueError, match='positive'):
        bounded_forgetting_loss(torch.tensor(1.0), 0.0)


def test_prototype_loss_against_float64():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(6, 7, generator=generator)
    prototypes = torch.randn(3, 7, generator=generator)
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    p = prototypes.double()[labels].softmax(1)
    q = features.double().softmax(1)
    expected = float((p * (p / q).log()).sum(1).mean())
    loss = prototype_loss(features, labels, prototypes)
    assert float(loss) == pytest.approx(expected, 1e-6)


def test_prototype_loss_is_zero_at_the_prototype_and_for_nothing():
    prototypes = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([2, 0])
    at = prototype_loss(prototypes[labels], labels, prototypes)
    assert float(at) == pytest.approx(0, abs=1e-7)
    nothing = prototype_loss(prototypes[:0], labels[:0], prototypes)
    assert nothing.item() == 0


def test_prototype_loss_refuses_other_shapes():
    with pytest.raises(ValueError, match='must be'):
        prototype_loss(
            torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, 4)
        )
    with pytest.raises(ValueError, match='labels'):
        prototype_loss(torch.zeros(2, 3), torch.tensor([0]), torch.zeros(2, 3))


def random_logits(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(5, 7, generator=generator, dtype=dtype)


def kl64(student, teacher, temperature, activation):
    """KL of each row, from probabilities."""
    s, t = (x.double().numpy() / temperature for x in (student, teacher))
    if activation == 'softmax':
        q, p = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (s, t))
        return (p * np.log(p / q)).sum(1)
    q, p = (1 / (1 + np.exp(-x)) for x in (s, t))
    both = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return both.sum(1)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize('seed', range(3))
def test_distillation_against_float64(seed, temperature, activation):
    student, teacher = random_logits(seed), random_logits(seed + 10)
    loss = distillation_loss(student, teacher, temperature, activation)
    expected = kl64(student, teacher, temperature, activation).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_distillation_ends_at_the_teacher(activation):
    """Fault 4 of the public code: a distillation term without effect."""
    teacher = random_logits(0, torch.float64).requires_grad_()
    at = teacher.detach().clone().requires_grad_()
    loss = distillation_loss(at, teacher, 2.0, activation)
    loss.backward()
    assert loss == 0
    torch.testing.assert_close(at.grad, torch.zeros_like(at))
    off = random_logits(1, torch.float64).requires_grad_()
    loss = distillation_loss(off, teacher, 2.0, activation)
    loss.backward()
    assert loss > 0.1
    # The gradient of cross-entropy with soft targets.
    act = dict(softmax=lambda x: x.softmax(1), sigmoid=torch.sigmoid)
    expected = (act[activation](off / 2) - act[activation](teacher / 2)) / 10
    torch.testing.assert_close(off.grad, expected)
    assert teacher.grad is None


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_distillation_of_extreme_logits(activation):
    """No logarithm of a probability that is rounded to zero."""
    teacher = torch.tensor([[500.0, -500.0, 0.0]])
    student = (-teacher).requires_grad_()
    loss = distillation_loss(student, teacher, 1.0, activation)
    loss.backward()
    assert loss.item() == pytest.approx(1000)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_distillation_of_nothing(activation):
    student = torch.zeros(0, 7, requires_grad=True)
    loss = distillation_loss(student, torch.zeros(0, 7), 1.0, activation)
    loss.backward()
    assert loss == 0 and student.grad.shape == (0, 7)


def test_distillation_in_half_precision():
    student, teacher = random_logits(0).bfloat16(), random_logits(1).bfloat16()
    loss = distillation_loss(student, teacher)
    expected = distillation_loss(student.double(), teacher.double())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(teacher_logits=torch.zeros(2, 4)), r'\(2, 4\) must'),
        (dict(temperature=0.0), 'positive, got 0'),
        (dict(activation='relu'), "got 'relu'"),
    ],
)
def test_distillation_refuses_what_does_not_fit(change, message):
    arguments = dict(logits=torch.zeros(2, 3), teacher_logits=torch.ones(2, 3))
    with pytest.raises(ValueError, match=message):
        distillation_loss(**{**arguments, **change})


@pytest.mark.parametrize(
    ('name', 'settings', 'message'),
    [
        ('BoundedForgetting', dict(bound=0), 'bound = 0: .* > 0'),
        ('BoundedForgetting', dict(bound=math.inf), 'bound = inf: .* > 0'),
        ('BoundedForgetting', dict(bound='a'), "bound = 'a': .* > 0"),
        (
            'BoundedForgetting',
            dict(bound=1, loss_weight=-1),
            'loss_weight = -1: .* >= 0',
        ),
        ('GroupSparsity', dict(loss_weight=math.nan), 'loss_weight = nan'),
        ('GroupSparsity', dict(loss_weight=None), 'loss_weight = None'),
        ('Prototype', dict(loss_weight=-0.5), 'loss_weight = -0.5'),
    ],
)
def test_bad_arguments_of_registered_modules(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(dict(type=f'gslora_mm.{name}Loss', **settings))


@pytest.mark.parametrize('weight', [1.0, 0.25])
def test_registered_modules_are_the_functions_times_a_weight(weight):
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(4, 6, generator=generator)
    labels = torch.tensor([0, 1, 1, 0])
    groups = {'a': [rows], 'b': [rows[:2], rows[2:]]}
    loss = torch.tensor(3.5)
    for module, inputs, expected in (
        (GroupSparsityLoss, (groups,), group_sparsity_loss(groups)),
        (
            PrototypeLoss,
            (rows, labels, rows[:2]),
            prototype_loss(rows, labels, rows[:2]),
        ),
        (
            RelativePrototypeLoss,
            (rows, labels, rows[:2]),
            relative_prototype_loss(rows, labels, rows[:2]),
        ),
        (BoundedForgettingLoss, (loss,), bounded_forgetting_loss(loss, 5.0)),
    ):
        config = dict(type=f'gslora_mm.{module.__name__}', loss_weight=weight)
        if module is BoundedForgettingLoss:
            config['bound'] = 5.0
        built = MODELS.build(config)
        assert type(built) is module and not list(built.parameters())
        assert torch.equal(built(*inputs), weight * expected)


def test_relative_prototypes_are_compared_in_full_precision():
    """Of prototypes that lie close together, 1 - cos is a difference."""
    torch.manual_seed(0)
    rows = 3 + 0.3 * torch.randn(80, 16)
    features, labels = rows[:9] + 0.1 * torch.randn(9, 16), torch.arange(9)
    expected = relative_prototype_loss(features, labels, rows)
    with torch.autocast('cpu', torch.bfloat16):
        found = relative_prototype_loss(features, labels, rows)
    assert torch.equal(found, expected)
