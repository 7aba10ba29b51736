import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from gslora_mm.utils import ConfigError, SaveError
from gslora_mm.utils.tensor_file import load_tensors, save_tensors

TENSORS = dict(
    a=torch.arange(6.0).view(2, 3).t(),  # not contiguous
    flags=torch.tensor([True, False]),
)


def test_round_trip(tmp_path):
    path = tmp_path / 'new folder' / 'a.safetensors'
    save_tensors(TENSORS, path, dict(rank=8, classes='cat\ndog'))
    tensors, metadata = load_tensors(path, 'state')
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert metadata == dict(rank='8', classes='cat\ndog', format='pt')


def test_the_same_content_gives_the_same_bytes(tmp_path):
    metadata = {name: '1' for name in 'qwertyuiop'}
    for number in range(3):
        save_tensors(TENSORS, tmp_path / str(number), metadata)
    first, *others = ((tmp_path / str(n)).read_bytes() for n in range(3))
    assert others == [first, first]


def test_files_of_earlier_versions_are_read(tmp_path):
    """They have a metadata entry for each name."""
    path = tmp_path / 'a.safetensors'
    metadata = dict(rank='8', classes='cat\ndog', format='pt')
    save_file({'a': torch.ones(2)}, path, metadata)
    tensors, found = load_tensors(path, 'state')
    assert tensors['a'].tolist() == [1, 1] and found == metadata
    save_file({'a': torch.ones(2)}, path)
    assert load_tensors(path, 'state')[1] == {}
    save_file({'a': torch.ones(2)}, path, dict(json='{"rank"'))
    with pytest.raises(ConfigError, match='^state: not a complete'):
        load_tensors(path, 'state')


def test_what_cannot_be_read_is_named(tmp_path):
    path = tmp_path / 'a.safetensors'
    with pytest.raises(ConfigError, match='^state: there is no such file'):
        load_tensors(path, 'state')
    save_tensors(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ConfigError, match='^state: not a complete'):
        load_tensors(path, 'state')


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    save_tensors(TENSORS, path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(SaveError, match='previous version was kept'):
        save_tensors(dict(a=torch.zeros(1)), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['a.safetensors']
