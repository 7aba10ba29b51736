"""Subspaces: bases by hand, and moments of the right model and half."""

import copy

import pytest
import torch
from mmengine.dataset import pseudo_collate

from gslora_mm.lora import disable_lora, lora_layers
from gslora_mm.methods.ingredients.subspaces import (
    joint_basis,
    leading_directions,
    project_out,
    second_moments,
)
from tests.test_methods.helpers import TASKS, TinyDataset, tiny_model


def random_basis(rank, seed=0, dim=8):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(dim, rank, generator=generator, dtype=torch.double)
    return torch.linalg.qr(rows)[0].float()


def is_orthonormal(basis):
    eye = torch.eye(basis.shape[1])
    return torch.allclose(basis.t() @ basis, eye, atol=1e-6)


@pytest.mark.parametrize(
    ('energy', 'rank'), [(0.5, 1), (0.8, 1), (0.82, 2), (0.99, 2), (0.999, 3)]
)
def test_the_fewest_directions_that_hold_enough(energy, rank):
    """Of the squared eigenvalues: .8185, .9983, .999999 and 1."""
    values = torch.tensor([8, 3.75, 0.36, 0.01, 0, 0, 0, 0])
    axes = random_basis(8)
    moments = axes @ values.diag() @ axes.t()
    basis = leading_directions(moments, energy)
    assert basis.shape == (8, rank) and basis.dtype == torch.float32
    assert is_orthonormal(basis)
    assert project_out(axes[:, :rank].t(), basis).abs().max() < 1e-5
    assert torch.allclose(
        project_out(axes[:, rank:].t(), basis), axes[:, rank:].t(), atol=1e-5
    )


def test_nothing_seen_is_no_direction():
    assert leading_directions(torch.zeros(8, 8), 0.9).shape == (8, 0)


def test_a_joint_basis_spans_all():
    one, other = random_basis(3, 0), random_basis(2, 1)
    shared = torch.cat([other[:, :1], one[:, 1:2]], 1)
    joint = joint_basis(one, other, torch.linalg.qr(shared)[0])
    assert joint.shape == (8, 5) and is_orthonormal(joint)
    for basis in (one, other):
        assert project_out(basis.t(), joint).abs().max() < 1e-5
    assert joint_basis(one, torch.zeros(8, 0)).shape == (8, 3)
    assert joint_basis(one, one).shape == (8, 3)


@pytest.mark.parametrize('role', ['forget', 'retain'])
@pytest.mark.parametrize('task', TASKS)
def test_moments_of_the_model_without_its_adapter(task, role):
    model = tiny_model(task, dict(type='gslora_mm.GSLoRA'))
    layers = lora_layers(model.model)
    dataset = TinyDataset(task)
    indices = dict(forget=[0, 1], retain=[2, 3, 4])[role]
    samples = [dataset[i, 0] for i in indices]
    dataset.asked.clear()

    # The stock model, all images at once.
    seen = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: seen.update({name: args[0]})
        )
        for name, layer in layers.items()
    ]
    model.eval()
    with torch.no_grad(), disable_lora(model.model):
        half = model.task.read(
            model.model, pseudo_collate(copy.deepcopy(samples))
        )
        features = half.features
    for handle in handles:
        handle.remove()

    model.train()
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.normal_()
    inputs, moments = second_moments(
        model, dataset, role, layers, batch_size=2
    )
    assert dataset.asked == indices
    assert model.training and all(m.enabled for m in layers.values())
    assert not any(m._forward_pre_hooks for m in layers.values())
    torch.testing.assert_close(
        moments, features.t() @ features, rtol=1e-4, atol=1e-4
    )
    assert set(inputs) == set(layers)
    for name, found in inputs.items():
        x = seen[name].flatten(0, -2)
        torch.testing.assert_close(found, x.t() @ x, rtol=1e-3, atol=1e-3)
