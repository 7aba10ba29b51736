import argparse
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from gslora_mm.utils.data_only import RefusedPickle, load_data_only


class Malicious:
    """Unpickles into a call of its choice."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class Custom:
    """A harmless class, but not one that is known to be data."""


def saved(tmp_path, obj, **kwargs):
    path = tmp_path / 'checkpoint.pth'
    torch.save(obj, path, **kwargs)
    return path


def test_a_command_line_is_data(tmp_path):
    args = argparse.Namespace(lr=0.1, dataset='coco', masks=None)
    path = saved(tmp_path, dict(model={'a': torch.ones(1)}, args=args))
    assert load_data_only(path)['args'] == args
    trap = argparse.Namespace(lr=Malicious(os.mkdir, str(tmp_path / 'a')))
    with pytest.raises(RefusedPickle, match='mkdir'):
        load_data_only(saved(tmp_path, trap))
    assert not (tmp_path / 'a').exists()


@pytest.mark.parametrize('zipped', [True, False])
def test_a_checkpoint_of_mmengine_is_data(tmp_path, zipped):
    model = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    checkpoint = load_data_only(
        saved(
            tmp_path,
            dict(
                state_dict=model.state_dict(),
                optimizer=optimizer.state_dict(),
                message_hub=dict(log_scalars=OrderedDict(loss=buffer)),
                meta=dict(
                    dataset_meta=dict(classes=('a', 'b')),
                    best=np.float32(0.5),
                    palette=np.arange(6, dtype=np.uint8).reshape(2, 3),
                    labels=np.array(['cat', 'dog']),
                ),
            ),
            _use_new_zipfile_serialization=zipped,
        )
    )
    weight = checkpoint['state_dict']['weight']
    assert torch.equal(weight, model.weight)
    state = checkpoint['optimizer']['state'][0]
    assert torch.equal(
        state['exp_avg'], optimizer.state_dict()['state'][0]['exp_avg']
    )
    loss = checkpoint['message_hub']['log_scalars']['loss']
    assert isinstance(loss, HistoryBuffer)
    assert loss.mean(2) == 1.5 and loss.statistics('max') == 2.0
    meta = checkpoint['meta']
    assert meta['best'] == np.float32(0.5)
    assert meta['palette'].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert meta['labels'].tolist() == ['cat', 'dog']


def test_arrays_of_the_other_numpy_generation(tmp_path):
    path = saved(
        tmp_path,
        dict(a=np.arange(3.0), b=np.int64(7)),
        _use_new_zipfile_serialization=False,
    )
    new, old = b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n'
    content = path.read_bytes()
    assert (new in content) != (old in content)
    for was, becomes in ((new, old), (old, new)):
        path.write_bytes(content.replace(was, becomes))
        checkpoint = load_data_only(path)
        assert checkpoint['a'].tolist() == [0, 1, 2]
        assert checkpoint['b'] == 7


@pytest.mark.parametrize('zipped', [True, False])
def test_code_is_refused_and_not_run(tmp_path, zipped):
    marker = tmp_path / 'executed'
    path = saved(
        tmp_path,
        dict(x=Malicious(os.mkdir, str(marker))),
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(RefusedPickle, match='posix.mkdir'):
        load_data_only(path)
    assert not marker.exists()


def test_all_refused_classes_are_named(tmp_path):
    path = saved(
        tmp_path, dict(a=Custom(), b=Malicious(os.getcwd), c=np.arange(2))
    )
    with pytest.raises(RefusedPickle) as caught:
        load_data_only(path)
    assert str(caught.value) == f'posix.getcwd, {__name__}.Custom'


@pytest.mark.parametrize(
    'owner, name',
    [
        (HistoryBuffer, '__init__'),
        (HistoryBuffer, '__class__'),
        (np.ndarray, 'min'),
    ],
)
def test_getattr_reaches_nothing_but_the_message_hub(tmp_path, owner, name):
    path = saved(tmp_path, dict(x=Malicious(getattr, owner, name)))
    with pytest.raises(RefusedPickle, match='builtins.getattr'):
        load_data_only(path)


def test_arrays_of_objects_are_refused(tmp_path):
    path = saved(tmp_path, dict(x=np.array([{}, None], dtype=object)))
    with pytest.raises(RefusedPickle, match='numpy.*ObjectDType'):
        load_data_only(path)


def test_a_pickle_protocol_that_cannot_be_checked_is_refused(tmp_path):
    path = saved(tmp_path, dict(x=torch.ones(1)), pickle_protocol=5)
    with pytest.warns(UserWarning, match='pickle protocol 5'):
        with pytest.raises(RefusedPickle, match='cannot be checked'):
            load_data_only(path)


def test_a_damaged_file_is_not_a_refused_one(tmp_path):
    path = saved(tmp_path, dict(x=torch.arange(1000)))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(RuntimeError):
        load_data_only(path)
