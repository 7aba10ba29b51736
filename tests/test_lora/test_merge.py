"""Folding an adapter into a state dict without the model."""

import copy

import pytest
import torch

from gslora_mm.lora import (
    adapter_state_dict,
    inject_lora,
    merge_adapter,
    merged_state_dict,
    split_adapter,
)
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import perturb


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('target', ['ffn', 'all', '.*'])
def test_same_bits_as_from_the_model(toy, target, shared):
    if shared:
        toy.blocks[1] = toy.blocks[0]
    stock = copy.deepcopy(toy).state_dict()
    inject_lora(toy, rank=4, alpha=2.0, target=target)
    perturb(toy)
    before = copy.deepcopy(stock)
    merged = merge_adapter(stock, adapter_state_dict(toy), alpha=2.0)
    expected = merged_state_dict(toy)
    assert list(merged) == list(expected)
    assert merged._metadata == stock._metadata
    assert all(torch.equal(merged[key], expected[key]) for key in merged)
    assert all(torch.equal(stock[key], before[key]) for key in stock)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(lora_A=None), 'stem.lora_A and lora_B are no pair'),
        (dict(lora_B=None), 'stem.lora_A and lora_B are no pair'),
        (dict(lora_A=torch.zeros(4, 9)), r'stem.weight is \(16, 8\)'),
        (dict(lora_B=torch.zeros(16, 3)), r'stem.weight is \(16, 8\)'),
        (dict(lora_B=torch.zeros(16)), r'stem.weight is \(16, 8\)'),
    ],
)
def test_adapter_that_does_not_fit(toy, change, message):
    stock = copy.deepcopy(toy.state_dict())
    inject_lora(toy, rank=4, target='stem')
    adapter = adapter_state_dict(toy)
    for matrix, value in change.items():
        adapter[f'stem.{matrix}'] = value
        if value is None:
            del adapter[f'stem.{matrix}']
    with pytest.raises(ConfigError, match=message):
        merge_adapter(stock, adapter, alpha=1.0)


def test_foreign_keys(toy):
    with pytest.raises(ConfigError, match='2 problem'):
        merge_adapter(
            toy.state_dict(),
            {
                'other.lora_A': torch.zeros(4, 8),
                'other.lora_B': torch.zeros(16, 4),
                'stem.weight': torch.zeros(16, 8),
            },
            alpha=1.0,
        )


def test_a_state_dict_of_an_adapted_model_comes_apart(toy):
    stock = copy.deepcopy(toy).state_dict()
    inject_lora(toy, rank=4, target='all')
    weights, adapter = split_adapter(perturb(toy).state_dict())
    assert list(weights) == list(stock)
    expected = adapter_state_dict(toy)
    assert set(adapter) == set(expected)
    assert all(torch.equal(adapter[key], expected[key]) for key in adapter)
