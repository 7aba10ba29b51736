"""Listing, counting, switching off."""

import copy

import pytest
import torch

from gslora_mm.lora import (
    count_parameters,
    disable_lora,
    inject_lora,
    lora_layers,
    lora_parameters,
    scaled_lora,
)
from tests.test_lora.helpers import assert_same, perturb


def test_nothing_in_a_stock_model(toy):
    total = sum(p.numel() for p in toy.parameters())
    assert lora_layers(toy) == {} and lora_parameters(toy) == []
    assert count_parameters(toy) == (total, total)


def test_count_is_rank_times_in_plus_out(toy):
    stock = count_parameters(toy)[1]
    inject_lora(toy, rank=4)
    adapter = 2 * 2 * 4 * (16 + 32)
    assert count_parameters(toy) == (adapter, stock + adapter)
    assert sum(p.numel() for p in lora_parameters(toy)) == adapter


def test_parameters_come_in_pairs(toy):
    inject_lora(toy, rank=4)
    layers = list(lora_layers(toy).values())
    parameters = lora_parameters(toy)
    assert parameters[:2] == [layers[0].lora_A, layers[0].lora_B]
    assert len(parameters) == 2 * len(layers)


@pytest.mark.parametrize('merged', [False, True])
def test_disable_gives_the_base_model_back(toy, x, merged):
    stock = copy.deepcopy(toy)
    inject_lora(toy, rank=4, target='all')
    perturb(toy)
    for layer in lora_layers(toy).values():
        if merged:
            layer.merge()
    adapted = toy(x)
    with disable_lora(toy) as base:
        assert base is toy
        assert_same(toy(x), stock(x))
    assert torch.equal(toy(x), adapted)


@pytest.mark.parametrize('target', ['ffn', 'all'])
def test_a_part_of_the_update_counts_for_a_while(toy, x, target):
    inject_lora(toy, rank=4, target=target)
    perturb(toy)
    smaller = copy.deepcopy(toy)
    for layer in lora_layers(smaller).values():
        layer.lora_B.data.mul_(0.7)
    adapted = toy(x)
    with pytest.raises(KeyError), scaled_lora(toy, 0.7) as part:
        assert part is toy
        torch.testing.assert_close(toy(x), smaller(x))
        assert not torch.allclose(toy(x), adapted)
        raise KeyError
    assert torch.equal(toy(x), adapted)


def test_disable_nests_and_survives_an_exception(toy):
    inject_lora(toy, rank=4)
    layers = list(lora_layers(toy).values())
    layers[0].enabled = False  # a state of its own, to be kept

    def states():
        return [layer.enabled for layer in layers]

    with pytest.raises(KeyError), disable_lora(toy):
        with disable_lora(toy):
            assert states() == [False] * 4
        assert states() == [False] * 4
        raise KeyError
    assert states() == [False, True, True, True]
