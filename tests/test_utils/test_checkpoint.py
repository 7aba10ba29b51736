import hashlib
import os
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import (
    load_checkpoint,
    load_state_dict_strictly,
    save_stock_checkpoint,
    sha256_of,
    state_dict_of,
)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def saved(tmp_path, obj, **kwargs):
    path = tmp_path / 'checkpoint.pth'
    torch.save(obj, path, **kwargs)
    return path


def net(*widths):
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*layers)


def test_a_checkpoint_is_read_from_its_path(tmp_path):
    path = saved(tmp_path, dict(state_dict=dict(x=torch.ones(2)), epoch=3))
    checkpoint = load_checkpoint(path)
    assert checkpoint['epoch'] == 3
    assert checkpoint['state_dict']['x'].tolist() == [1, 1]
    with pytest.raises(ConfigError, match='load_from = .*no such file'):
        load_checkpoint(tmp_path / 'a.pth', key='load_from')


@pytest.mark.parametrize(
    'key, flag',
    [
        ('forgetting.pretrained', 'forgetting.allow_pickle'),
        ('load_from', 'allow_pickle'),
    ],
)
def test_code_is_refused_unless_allowed(tmp_path, key, flag):
    marker = tmp_path / 'executed'
    path = saved(tmp_path, dict(x=Touch(marker)))
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(path, key=key)
    assert not marker.exists()
    message = str(caught.value)
    assert message.startswith(f"{flag} = False: '{path}' holds more than data")
    assert 'data: pathlib.' in message and 'allow it with True' in message
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(path, None, key=key)
    assert not marker.exists()
    assert str(caught.value).startswith(f"{key} = '{path}': holds more than")
    assert 'publish_model.py --allow-pickle' in str(caught.value)
    load_checkpoint(path, allow_pickle=True)
    assert marker.exists()


@pytest.mark.parametrize('part', [0.0, 0.3, 0.9])
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('allow_pickle', [True, False])
def test_a_truncated_file_is_damaged(tmp_path, part, zipped, allow_pickle):
    path = saved(
        tmp_path,
        dict(x=torch.arange(1000)),
        _use_new_zipfile_serialization=zipped,
    )
    content = path.read_bytes()
    size = int(part * len(content))
    path.write_bytes(content[:size])
    with pytest.raises(ConfigError, match=f'is damaged .{size} bytes'):
        load_checkpoint(path, allow_pickle)


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('<html>not found</html>')
    with pytest.raises(ConfigError, match='is no checkpoint'):
        load_checkpoint(path)
    path = saved(tmp_path, [1, 2])
    with pytest.raises(ConfigError, match='holds a list; valid: a dict'):
        load_checkpoint(path)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: weights,
        lambda weights: dict(state_dict=weights, meta={}),
        lambda weights: dict(model=weights, epoch=3),
    ],
)
@pytest.mark.parametrize('parallel', [True, False])
def test_state_dict_of(wrap, parallel):
    model = net(2, 3)
    wrapper = nn.DataParallel(model) if parallel else model
    state_dict = state_dict_of(wrap(wrapper.state_dict()))
    assert list(state_dict) == list(model.state_dict())
    assert state_dict._metadata == model.state_dict()._metadata
    assert torch.equal(state_dict['0.bias'], model[0].bias)


def test_averaged_weights_alone():
    """mmengine counts the updates beside them."""
    model = net(2, 3)
    averaged = {f'module.{k}': v for k, v in model.state_dict().items()}
    averaged['steps'] = torch.tensor(7)
    found = state_dict_of(dict(ema_state_dict=averaged, epoch=3))
    assert list(found) == list(model.state_dict())
    # mmengine has swapped them: the averaged ones are 'state_dict'.
    both = dict(ema_state_dict=averaged, state_dict={'a': torch.ones(1)})
    assert list(state_dict_of(both)) == ['a']
    assert list(state_dict_of(both, entry='ema_state_dict')) == list(found)


def test_safetensors(tmp_path):
    path = tmp_path / 'model.safetensors'
    save_file({'a': torch.ones(2)}, path)
    assert load_checkpoint(path)['a'].tolist() == [1, 1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ConfigError,
        match="forgetting.pretrained = '.*model.safetensors': not a complete",
    ):
        load_checkpoint(path)


def test_a_submodule_named_module_is_no_wrapper():
    weights = {'module.a': torch.ones(1), 'head': torch.ones(1)}
    assert list(state_dict_of(weights)) == ['module.a', 'head']


@pytest.mark.parametrize(
    'checkpoint, found',
    [
        ({}, 'nothing'),
        ({'meta': {}, 'epoch': 1}, "'meta', 'epoch'"),
        ({'state_dict': {'a': 1}}, "'a'"),
        ({'state_dict': {}}, 'nothing'),
    ],
)
def test_a_checkpoint_without_weights(checkpoint, found):
    with pytest.raises(ConfigError, match=f'no state dict.*Found: {found}'):
        state_dict_of(checkpoint)


def test_strict_loading_fills_the_model():
    source, target = net(2, 3, 4), net(2, 3, 4)
    load_state_dict_strictly(target, source.state_dict())
    assert torch.equal(source[1].weight, target[1].weight)
    assert not target._load_state_dict_post_hooks


def test_strict_loading_names_everything_that_does_not_fit():
    target = net(2, 3, 4, 5, 6, 7, 8)
    weights = net(2, 3).state_dict()
    weights['0.weight'] = torch.ones(9, 2)
    weights['query.weight'] = torch.ones(1)
    with pytest.raises(ConfigError) as caught:
        load_state_dict_strictly(target, weights, key='load_from')
    head, *lines = str(caught.value).splitlines()
    assert head == 'load_from: the checkpoint does not fit the model.'
    assert lines == [
        '  10 missing: 1.weight, 1.bias, 2.weight, 2.bias, 3.weight, ...',
        '  1 unexpected: query.weight',
        '  1 of another shape: 0.weight ([9, 2] instead of [3, 2])',
    ]


def test_strict_loading_leaves_out_what_is_ignored():
    target = net(2, 3, 4)
    before = target[1].weight.clone()
    weights = net(2, 3, 5).state_dict()
    weights['old_head.weight'] = torch.ones(1)
    load_state_dict_strictly(target, weights, ignore=('1.', 'old_head'))
    assert torch.equal(target[0].weight, weights['0.weight'])
    assert torch.equal(target[1].weight, before)
    with pytest.raises(ConfigError, match='unexpected: old_head.weight'):
        load_state_dict_strictly(target, weights, ignore=['1.'])


def test_models_may_rename_old_keys_while_loading():
    class Renaming(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            old = state_dict.pop(f'{prefix}kernel', None)
            if old is not None:
                state_dict[f'{prefix}weight'] = old
            super()._load_from_state_dict(state_dict, prefix, *args)

    model = Renaming(2, 2)
    weights = OrderedDict(kernel=torch.eye(2), bias=torch.zeros(2))
    load_state_dict_strictly(model, weights)
    assert torch.equal(model.weight, torch.eye(2))
    assert list(weights) == ['kernel', 'bias']


def test_a_stock_checkpoint_holds_weights_and_classes_only(tmp_path):
    model, path = net(2, 3), tmp_path / 'merged.pth'
    metainfo = dict(classes=('a', 'b'), palette=[(1, 2, 3)], other=object())
    save_stock_checkpoint(model, metainfo, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint['meta'] == dict(
        dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3)])
    )
    load_state_dict_strictly(net(2, 3), state_dict_of(checkpoint))
    assert set(checkpoint) == {'meta', 'state_dict'}


def test_sha256(tmp_path):
    content = os.urandom(2**20 + 17)
    (tmp_path / 'a').write_bytes(content)
    assert sha256_of(tmp_path / 'a') == hashlib.sha256(content).hexdigest()
