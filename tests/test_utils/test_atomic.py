import json
import os
import resource
import signal
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from gslora_mm.utils import (
    ConfigError,
    SaveError,
    atomic_path,
    atomic_write,
    load_json,
    remove_leftovers,
    save_json,
    save_torch,
)


@contextmanager
def largest_file(size: int):
    """Let the system refuse to write more than `size` bytes to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def kill_while_writing(path) -> None:
    """Write half a file in a child process that dies of kill -9."""
    child = os.fork()
    if child == 0:
        with atomic_write(path) as f:
            f.write(b'half')
            f.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'a.bin'
    with atomic_write(path) as f:
        f.write(b'all')
        f.flush()
        assert not path.exists()
    assert path.read_bytes() == b'all'
    assert os.listdir(path.parent) == ['a.bin']


def test_text_is_utf8_and_modes_are_checked(tmp_path):
    with atomic_write(tmp_path / 'a.txt', 'w') as f:
        f.write('é')
    assert (tmp_path / 'a.txt').read_bytes() == 'é'.encode()
    with pytest.raises(ValueError, match="mode must be 'wb' or 'w'"):
        with atomic_write(tmp_path / 'a.txt', 'a'):
            pass


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_an_error_keeps_the_previous_version(tmp_path, error):
    path = tmp_path / 'a.txt'
    path.write_text('before')
    with pytest.raises(error):
        with atomic_write(path, 'w') as f:
            f.write('after')
            raise error
    assert path.read_text() == 'before'
    assert os.listdir(tmp_path) == ['a.txt']


def test_kill_keeps_the_previous_version(tmp_path):
    path = tmp_path / 'step_01' / 'a.bin'
    path.parent.mkdir()
    path.write_bytes(b'before')
    kill_while_writing(path)
    assert path.read_bytes() == b'before'
    (leftover,) = remove_leftovers(tmp_path)
    assert leftover.parent == path.parent
    assert os.listdir(path.parent) == ['a.bin']
    assert remove_leftovers(tmp_path / 'missing') == []


def test_leftovers_are_only_ours(tmp_path):
    for name in ('.hidden', 'a.tmp', '.a.tmp', 'a.gslora-tmp'):
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path) == []
    assert len(os.listdir(tmp_path)) == 4


def test_a_link_is_followed(tmp_path):
    (tmp_path / 'real.txt').write_text('before')
    (tmp_path / 'link.txt').symlink_to('real.txt')
    with atomic_write(tmp_path / 'link.txt', 'w') as f:
        f.write('after')
    assert (tmp_path / 'link.txt').is_symlink()
    assert (tmp_path / 'real.txt').read_text() == 'after'


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / 'ordinary').touch()
    save_json({}, tmp_path / 'ours')
    modes = {
        stat.S_IMODE((tmp_path / name).stat().st_mode)
        for name in ('ordinary', 'ours')
    }
    assert len(modes) == 1


def test_writers_that_take_a_path(tmp_path):
    path = tmp_path / 'a.png'
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary != path
        temporary.write_bytes(b'picture')
    assert path.read_bytes() == b'picture'
    assert os.listdir(tmp_path) == ['a.png']


@pytest.mark.parametrize('save', [save_json, save_torch])
def test_a_full_disk_is_told_and_loses_nothing(tmp_path, save):
    path = tmp_path / 'a'
    save([1, 2], path)
    before = path.read_bytes()
    large = list(range(50_000)) if save is save_json else torch.ones(50_000)
    with largest_file(100_000), pytest.raises(SaveError) as caught:
        save(large, path)
    message = str(caught.value)
    assert str(path) in message
    assert 'File too large' in message
    assert 'the previous version was kept' in message
    assert 'free space there' in message
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['a']


def test_an_impossible_folder_is_a_save_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(SaveError, match='nothing was written'):
        save_json({}, tmp_path / 'file' / 'a.json')


def test_errors_about_other_files_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError, match='other'):
        with atomic_write(tmp_path / 'a'):
            open(tmp_path / 'other')
    assert os.listdir(tmp_path) == []


def test_json_round_trip(tmp_path):
    path = tmp_path / 'a.json'
    obj = {
        'nan': float('nan'),
        'scores': [np.float32(0.5), float('inf'), None, True, 3],
        'tuple': ('a', 'b'),
        'set': {'c', 'b'},
        'array': np.array([[1.0, np.nan]]),
        'tensor': torch.tensor([1, 2]),
        'path': Path('x/y'),
    }
    save_json(obj, path)
    assert load_json(path) == {
        'nan': None,
        'scores': [0.5, None, None, True, 3],
        'tuple': ['a', 'b'],
        'set': ['b', 'c'],
        'array': [[1.0, None]],
        'tensor': [1, 2],
        'path': 'x/y',
    }
    text = path.read_text()
    assert text.endswith('}\n') and '\n  "nan": null' in text
    json.loads(text, parse_constant=pytest.fail)


def test_what_json_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        save_json({'a': object()}, tmp_path / 'a.json')
    assert os.listdir(tmp_path) == []


def test_malformed_json_is_a_config_error(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"a": 1,\n')
    with pytest.raises(ConfigError, match='a.json is not valid JSON.*line 2'):
        load_json(path)
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / 'b.json')


def test_torch_round_trip_does_not_depend_on_the_name(tmp_path):
    for name in ('a.pth', 'b.pth'):
        save_torch({'x': torch.arange(3)}, tmp_path / name)
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded['x'].tolist() == [0, 1, 2]
    assert len({p.read_bytes() for p in tmp_path.iterdir()}) == 1
