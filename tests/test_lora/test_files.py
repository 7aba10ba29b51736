"""State dicts and files of the adapter."""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gslora_mm.lora import (
    adapter_state_dict,
    inject_lora,
    load_adapter,
    lora_layers,
    merge_lora,
    merged_state_dict,
    read_adapter,
    save_adapter,
)
from gslora_mm.utils import ConfigError, SaveError
from tests.test_lora.helpers import perturb


@pytest.fixture
def adapted(toy):
    inject_lora(toy, rank=4, alpha=2.0, target='all')
    return perturb(toy)


def test_merged_state_dict_is_the_merged_model(adapted):
    before = copy.deepcopy(adapted.state_dict())
    state = merged_state_dict(adapted)
    for key, value in adapted.state_dict().items():
        assert torch.equal(value, before[key])
    model = merge_lora(adapted)
    assert list(state) == list(model.state_dict())
    assert state._metadata == model.state_dict()._metadata
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value)
        assert not state[key].requires_grad


def test_merged_state_dict_of_a_merged_model(adapted):
    state = merged_state_dict(adapted)
    for layer in lora_layers(adapted).values():
        layer.merge()
    again = merged_state_dict(adapted)
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_shared_layer_is_merged_under_all_its_names(toy):
    toy.blocks[1].ffn = toy.blocks[0].ffn
    inject_lora(toy, rank=4)
    perturb(toy)
    stock = toy.state_dict()['blocks.1.ffn.layers.1.weight'].clone()
    state = merged_state_dict(toy)
    one, other = (state[f'blocks.{i}.ffn.layers.1.weight'] for i in (0, 1))
    assert torch.equal(one, other) and not torch.equal(one, stock)
    assert not [key for key in state if 'lora_' in key]
    assert len(adapter_state_dict(toy)) == 8


@pytest.mark.parametrize('target', ['ffn', 'attention', 'all', '.*'])
def test_round_trip(toy, x, tmp_path, target):
    stock = copy.deepcopy(toy)
    inject_lora(toy, rank=4, target=target)
    adapted = perturb(toy)(x)
    save_adapter(toy, tmp_path / 'a.safetensors')
    inject_lora(stock, rank=4, target=target)
    result = load_adapter(stock, tmp_path / 'a.safetensors')
    assert result == ([], [])
    assert torch.equal(stock(x), adapted)


def test_file_holds_the_adapter_and_its_settings(adapted, tmp_path):
    path = tmp_path / 'new folder' / 'a.safetensors'
    save_adapter(adapted, path, metadata=dict(step=3, rank='no'))
    tensors, metadata = read_adapter(path)
    own = adapter_state_dict(adapted)
    assert set(tensors) == set(own)
    assert all(torch.equal(tensors[key], own[key]) for key in own)
    assert metadata == dict(
        rank='4',
        alpha='2.0',
        dropout='0.0',
        target='all',
        step='3',
        format='pt',
    )
    with safe_open(path, 'pt') as file:  # any reader can open it
        assert json.loads(file.metadata()['json']) == metadata


def test_same_adapter_same_bytes(adapted, tmp_path):
    metadata = {letter: letter for letter in 'abcdefgh'}
    for name in 'xy':
        save_adapter(adapted, tmp_path / name, metadata)
    assert (tmp_path / 'x').read_bytes() == (tmp_path / 'y').read_bytes()


def test_failed_save_keeps_the_old_file(adapted, tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    save_adapter(adapted, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', full)
    with pytest.raises(SaveError, match='a.safetensors'):
        save_adapter(perturb(adapted, seed=2), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['a.safetensors']


def test_nothing_to_save(toy, tmp_path):
    with pytest.raises(ConfigError, match='no adapted layer'):
        save_adapter(toy, tmp_path / 'a')


def test_settings_must_agree(adapted, tmp_path):
    next(iter(lora_layers(adapted).values())).alpha = 5.0
    with pytest.raises(ConfigError, match='one rank, alpha and dropout'):
        save_adapter(adapted, tmp_path / 'a')


def load_changed(adapted, tmp_path, change, strict=True, alpha='2.0'):
    """Load a file that ``change`` made wrong; nothing may be loaded then."""
    path = tmp_path / 'a.safetensors'
    tensors = {
        key: value.clone() + 1
        for key, value in adapter_state_dict(adapted).items()
    }
    change(tensors)
    save_file(tensors, path, {'alpha': alpha} if alpha else None)
    before = copy.deepcopy(adapter_state_dict(adapted))
    try:
        return load_adapter(adapted, path, strict)
    except ConfigError:
        for key, value in adapter_state_dict(adapted).items():
            assert torch.equal(value, before[key])
        raise


KEY = 'blocks.0.attn.attn.out_proj.lora_A'


def test_missing_key(adapted, tmp_path):
    with pytest.raises(ConfigError, match=f'1 problem.*{KEY} is missing'):
        load_changed(adapted, tmp_path, lambda t: t.pop(KEY))
    old = adapter_state_dict(adapted)[KEY].clone()
    result = load_changed(adapted, tmp_path, lambda t: t.pop(KEY), False)
    assert result == ([KEY], [])
    assert torch.equal(adapter_state_dict(adapted)[KEY], old)


def test_unexpected_key(adapted, tmp_path):
    def change(tensors):
        tensors['more.lora_A'] = torch.zeros(4, 4)

    with pytest.raises(ConfigError, match='more.lora_A is not in the model'):
        load_changed(adapted, tmp_path, change)
    assert load_changed(adapted, tmp_path, change, False) == (
        [],
        ['more.lora_A'],
    )


@pytest.mark.parametrize('strict', [False, True])
def test_wrong_shape(adapted, tmp_path, strict):
    def change(tensors):
        tensors[KEY] = torch.zeros(3, 16)

    with pytest.raises(ConfigError, match=r'\(3, 16\) in the file, \(4, 16\)'):
        load_changed(adapted, tmp_path, change, strict)


def test_many_problems_are_counted(adapted, tmp_path):
    with pytest.raises(ConfigError, match=r'12 problem\(s\).*, \.\.\.'):
        load_changed(adapted, tmp_path, lambda t: t.clear())


def test_wrong_alpha(adapted, tmp_path):
    with pytest.raises(
        ConfigError, match=r'alpha is \[2.0\].*1.0 in the file'
    ):
        load_changed(adapted, tmp_path, lambda t: None, alpha='1.0')


def test_foreign_file(adapted, tmp_path):
    with pytest.raises(ConfigError, match='not written by save_adapter'):
        load_changed(adapted, tmp_path, lambda t: None, alpha=None)


def test_model_without_adapter(adapted, tmp_path):
    path = tmp_path / 'a'
    save_adapter(adapted, path)
    with pytest.raises(ConfigError, match="inject_lora first.*'rank': '4'"):
        load_adapter(merge_lora(adapted), path)


def test_merged_model(adapted, tmp_path):
    path = tmp_path / 'a'
    save_adapter(adapted, path)
    lora_layers(adapted)[KEY.removesuffix('.lora_A')].merge()
    with pytest.raises(ConfigError, match='unmerge_lora first'):
        load_adapter(adapted, path)


def test_broken_files(adapted, tmp_path):
    path = tmp_path / 'a'
    with pytest.raises(ConfigError, match='no such file'):
        read_adapter(path)
    with pytest.raises(ConfigError, match='no such file'):
        read_adapter(tmp_path)
    save_adapter(adapted, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match='not a complete safetensors file'):
        read_adapter(path)
    path.write_bytes(b'')
    with pytest.raises(ConfigError, match='not a complete safetensors file'):
        read_adapter(path)
