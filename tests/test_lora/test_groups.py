"""Groups and their norms."""

import math

import pytest
import torch
from torch import nn

from gslora_mm.lora import (
    group_norms,
    inject_lora,
    lora_groups,
    lora_layers,
    lora_parameters,
)
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import perturb


@pytest.mark.parametrize(
    'target, group_by, names',
    [
        ('ffn', 'block', ['blocks.0.ffn', 'blocks.1.ffn']),
        ('attention', 'block', ['blocks.0', 'blocks.1']),
        ('all', 'block', ['blocks.0', 'blocks.1']),
        ('stem|1.ffn', 'block', ['stem', 'blocks.1.ffn']),
        (r'0.ffn|0.attn', 'block', ['blocks.0']),
        ('1.ffn', 'lora', [f'blocks.1.ffn.layers.{n}' for n in ('0.0', '1')]),
        ('stem', 'matrix', ['stem.lora_A', 'stem.lora_B']),
    ],
)
def test_names(toy, target, group_by, names):
    inject_lora(toy, rank=4, target=target)
    assert list(lora_groups(toy, group_by)) == names
    assert list(group_norms(toy, group_by)) == names


@pytest.mark.parametrize('group_by', ['block', 'lora', 'matrix'])
@pytest.mark.parametrize('target', ['ffn', 'all', '.*'])
def test_every_parameter_is_in_one_group(toy, target, group_by):
    inject_lora(toy, rank=4, target=target)
    members = [p for ps in lora_groups(toy, group_by).values() for p in ps]
    assert sorted(map(id, members)) == sorted(map(id, lora_parameters(toy)))


def test_one_group_per_block_at_any_depth(toy):
    """The papers' code knows 6 and 12 blocks only and skips the others."""
    toy.blocks.extend(type(toy.blocks[0])() for _ in range(5))
    inject_lora(toy, rank=4)
    groups = lora_groups(toy)
    assert list(groups) == [f'blocks.{i}.ffn' for i in range(7)]
    assert all(len(members) == 4 for members in groups.values())


def test_two_ffns_of_a_block_are_one_group(toy):
    toy.blocks[0].second = type(toy.blocks[0].ffn)(16, 32)
    inject_lora(toy, rank=4)
    groups = lora_groups(toy)
    assert list(groups) == ['blocks.0', 'blocks.1.ffn']
    assert len(groups['blocks.0']) == 8


def test_shared_block_is_one_group(toy):
    toy.blocks[1] = toy.blocks[0]
    inject_lora(toy, rank=4)
    assert list(lora_groups(toy)) == ['blocks.0.ffn']


def test_model_that_is_one_block(toy):
    block = toy.blocks[0]
    inject_lora(block, rank=4)
    assert list(lora_groups(block)) == ['ffn']
    assert len(lora_groups(block)['ffn']) == 4


def test_unknown_grouping(toy):
    inject_lora(toy, rank=4)
    with pytest.raises(ConfigError, match="group_by = 'layer'.*'matrix'"):
        lora_groups(toy, 'layer')


@pytest.mark.parametrize('group_by', ['block', 'lora', 'matrix'])
def test_norms(toy, group_by):
    inject_lora(toy, rank=4, alpha=3.0)
    perturb(toy)
    norms = group_norms(toy, group_by)
    layers = lora_layers(toy)
    for name, members in lora_groups(toy, group_by).items():
        flat = torch.cat([p.flatten() for p in members])
        assert norms[name]['norm'] == pytest.approx(flat.norm().item())
        updates = torch.cat(
            [
                layer.delta_weight().flatten()
                for layer in layers.values()
                if any(p is layer.lora_A or p is layer.lora_B for p in members)
            ]
        )
        assert norms[name]['update_norm'] == pytest.approx(
            updates.norm().item(), rel=1e-5
        )
        assert norms[name]['active'] is True


def test_active_means_not_exactly_zero(toy):
    inject_lora(toy, rank=4)
    new = group_norms(toy)['blocks.0.ffn']
    assert new['norm'] > 0 and new['update_norm'] == 0 and new['active']
    for parameter in lora_groups(toy)['blocks.0.ffn']:
        nn.init.zeros_(parameter)
    norms = group_norms(toy)
    assert norms['blocks.0.ffn'] == dict(
        norm=0.0, update_norm=0.0, active=False
    )
    assert norms['blocks.1.ffn']['active']
    # too small for float32 squares, and still not zero
    with torch.no_grad():
        lora_groups(toy)['blocks.0.ffn'][0][0, 0] = 1e-30
    tiny = group_norms(toy)['blocks.0.ffn']
    assert tiny['active'] and math.isclose(tiny['norm'], 1e-30, rel_tol=1e-5)
