"""What is imported is not looked through for garbage."""

import gc
import subprocess
import sys

import pytest

from gslora_mm.utils.garbage import nothing_is_garbage
from tests.sequences import ROOT


@pytest.fixture
def thawed():
    yield
    gc.unfreeze()


def test_nothing_is_looked_for_inside_and_later(thawed):
    gc.collect()
    before = gc.get_freeze_count()
    with nothing_is_garbage():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)
    assert not any(thing is made for thing in gc.get_objects())


def test_it_is_looked_for_again_after_an_error(thawed):
    with pytest.raises(ImportError), nothing_is_garbage():
        raise ImportError
    assert gc.isenabled()


def test_training_starts_with_its_imports_frozen():
    code = (
        'import gc, runpy; runpy.run_path("tools/train.py"); '
        'print(gc.isenabled(), gc.get_freeze_count() > 100_000)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.split() == ['True', 'True'], done.stderr
