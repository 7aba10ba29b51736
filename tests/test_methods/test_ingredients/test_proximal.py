import pytest
import torch

from gslora_mm.methods.ingredients.proximal import group_soft_threshold
from gslora_mm.utils import ConfigError


def parameters(seed=0, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator))
        for shape in shapes or [(3, 4), (4, 3)]
    ]


def test_sgd_shrinks_by_lr_times_weight():
    group = parameters()
    before = [p.detach().clone() for p in group]
    norm = torch.cat([p.flatten() for p in before]).norm()
    optimizer = torch.optim.SGD(group, lr=0.1)
    group_soft_threshold(group, optimizer, 2.0)
    for now, then in zip(group, before, strict=True):
        assert torch.allclose(now, then * (1 - 0.2 / norm))


def test_a_weak_group_becomes_exactly_zero_and_stays():
    group = parameters()
    optimizer = torch.optim.SGD(group, lr=0.1)
    group_soft_threshold(group, optimizer, 1000.0)
    assert all(torch.equal(p, torch.zeros_like(p)) for p in group)
    group_soft_threshold(group, optimizer, 1000.0)
    assert all(torch.isfinite(p).all() for p in group)


def test_adam_steps_in_its_own_metric():
    group = parameters()
    optimizer = torch.optim.AdamW(group, lr=0.01, weight_decay=0.0)
    for p in group:
        p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    before = [p.detach().clone() for p in group]
    norm = torch.cat([p.flatten() for p in before]).norm()
    group_soft_threshold(group, optimizer, 0.3)
    # After one step the bias-corrected root of v is the gradient, 0.5.
    shrink = 1 - 0.01 * 0.3 / (0.5 + 1e-8) / norm
    for now, then in zip(group, before, strict=True):
        assert torch.allclose(now, then * shrink)


@pytest.mark.parametrize('name', ['SGD', 'AdamW'])
def test_fixed_points_are_those_of_the_group_lasso(name):
    """min 1/2 |x - a|^2 + w |x| has the solution a (1 - w / |a|)+."""
    strong = torch.nn.Parameter(torch.zeros(4))
    weak = torch.nn.Parameter(torch.full((4,), 0.3))
    target_strong = torch.tensor([3.0, -4.0, 0.0, 0.0])
    target_weak = torch.full((4,), 0.1)
    optimizer = getattr(torch.optim, name)([strong, weak], lr=0.02)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 1e-3, 4000)
    if name == 'AdamW':
        optimizer.param_groups[0]['weight_decay'] = 0.0
    strong.data += 0.1
    for _ in range(4000):
        optimizer.zero_grad()
        loss = 0.5 * (strong - target_strong).square().sum()
        loss = loss + 0.5 * (weak - target_weak).square().sum()
        loss.backward()
        optimizer.step()
        for group in ([strong], [weak]):
            group_soft_threshold(group, optimizer, 1.0)
        scheduler.step()
    assert torch.equal(weak, torch.zeros(4))
    assert torch.allclose(strong, target_strong * (1 - 1 / 5), atol=1e-3)


def test_solves_its_minimisation_problem_with_uneven_step_sizes():
    (x,) = group = parameters(3, (5,))
    optimizer = torch.optim.Adam(group, lr=0.05)
    for _ in range(3):
        x.grad = torch.tensor([1.0, 0.1, -2.0, 0.02, 0.5])
        optimizer.step()
    z = x.detach().double().clone()
    state = optimizer.state[x]
    root = (state['exp_avg_sq'].double() / (1 - 0.999**3)).sqrt() + 1e-8
    group_soft_threshold(group, optimizer, 0.4)
    y = x.detach().double()
    assert y.norm() > 0
    gradient = root / 0.05 * (y - z) + 0.4 * y / y.norm()
    assert torch.allclose(gradient, torch.zeros(5).double(), atol=1e-4)


@pytest.mark.parametrize(
    'make',
    [
        lambda group: torch.optim.AdamW(group, lr=0.01),
        lambda group: torch.optim.SGD(group, lr=0.01, momentum=0.9),
    ],
)
def test_a_zero_group_is_not_carried_away_by_momentum(make):
    group = parameters()
    optimizer = make(group)
    for _ in range(3):
        for p in group:
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    group_soft_threshold(group, optimizer, 1000.0)
    for p in group:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(torch.equal(p, torch.zeros_like(p)) for p in group)


def test_other_optimizers_are_refused():
    """Whatever has betas, but no second moments, like Lion."""
    group = parameters()
    optimizer = torch.optim.Adamax(group, lr=0.01)
    for p in group:
        p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(ConfigError, match="type = 'Adamax'.* SGD or one of"):
        group_soft_threshold(group, optimizer, 1.0)


def test_nothing_happens_before_the_optimizer_has_stepped():
    """Mixed precision skips steps whose gradients overflow."""
    group = parameters()
    before = [p.detach().clone() for p in group]
    group_soft_threshold(group, torch.optim.AdamW(group, lr=0.01), 1.0)
    group_soft_threshold(group, torch.optim.SGD(group, lr=0.0), 1.0)
    group_soft_threshold(group, torch.optim.SGD(group, lr=0.1), 0.0)
    for now, then in zip(group, before, strict=True):
        assert torch.equal(now, then)
