"""Tensors by key, in memory or in a file."""

import errno

import pytest
import torch

from gslora_mm.utils.tensor_store import TensorStore


@pytest.fixture(params=['memory', 'file'])
def folder(request, tmp_path):
    return tmp_path if request.param == 'file' else None


def test_gives_back_what_was_put_in(folder):
    store = TensorStore(10_000, folder)
    torch.manual_seed(0)
    rows = [
        [torch.rand(3, 5), torch.rand(0, 4, 2)],
        [torch.rand(7).bfloat16(), torch.randint(9, (2, 3), dtype=torch.int8)],
        [torch.rand(4, 6).T],
    ]
    for key, tensors in enumerate(rows):
        assert store.put(key, tensors)
        # Also after more has been read than was there at first.
        for earlier in range(key + 1):
            found = store.get(earlier)
            for got, put in zip(found, rows[earlier], strict=True):
                assert got.dtype == put.dtype and torch.equal(got, put)
    assert store.size == 60 + 14 + 6 + 96
    assert 2 in store and 3 not in store and store.get(3) is None


def test_a_part_of_a_batch_does_not_keep_the_batch():
    store, batch = TensorStore(1_000), torch.rand(9, 4)
    store.put('row', [batch[2]])
    (row,) = store.get('row')
    batch[2] = 0
    assert row.all()
    assert row.untyped_storage().nbytes() == 16


def test_keeps_to_its_limit(folder):
    store = TensorStore(100, folder)
    assert store.put('a', [torch.zeros(20)])
    assert not store.put('b', [torch.zeros(6)])
    assert store.put('c', [torch.zeros(5)])
    assert store.get('b') is None and store.size == store.limit


def test_leaves_no_file(tmp_path):
    store = TensorStore(1_000, tmp_path)
    store.put('a', [torch.ones(4)])
    assert not list(tmp_path.iterdir())
    assert store.get('a')[0].sum() == 4


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_a_limit(tmp_path, code):
    store = TensorStore(1_000, tmp_path)
    assert store.put('a', [torch.ones(4)])
    file, store._file = store._file, Full(code)
    if code == errno.EIO:
        with pytest.raises(OSError):
            store.put('b', [torch.ones(4)])
        return
    assert not store.put('b', [torch.ones(4)])
    store._file = file
    assert store.get('b') is None and store.get('a')[0].sum() == 4
    assert store.size == store.limit == 16


class Full:
    """A file that takes nothing."""

    def __init__(self, code):
        self.code = code

    def seek(self, *_):
        return 0

    def write(self, _):
        raise OSError(self.code, 'full')
