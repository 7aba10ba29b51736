"""Locks of files, and file systems without them."""

import errno

import filelock
import pytest

from gslora_mm.utils.locks import lock_file


def test_a_file_is_locked_once(tmp_path):
    path = tmp_path / 'lock'
    with lock_file(path), pytest.raises(filelock.Timeout):
        lock_file(path)
    with lock_file(path, blocking=True):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def acquire(*args, **kwargs):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    with lock_file(tmp_path / 'lock'), lock_file(tmp_path / 'lock'):
        pass


def test_a_file_that_may_not_be_made(tmp_path, monkeypatch):
    def acquire(*args, **kwargs):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    with pytest.raises(PermissionError):
        lock_file(tmp_path / 'lock')
