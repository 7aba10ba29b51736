import math

import pytest
import torch

from gslora_mm.models.losses import (
    bounded_forgetting_loss,
    group_norm,
    group_sparsity_loss,
    prototype_loss,
)


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
