import functools
import gc
import os

import pytest
from mmengine.config import utils as config_utils
from mmengine.registry import DefaultScope
from yapf.yapflib import yapf_api

from gslora_mm.toy_data import (
    make_mini_coco,
    make_mini_digits,
    make_mini_faces,
)

# Several tests run at once, each process on its own core.
os.environ.setdefault('OMP_NUM_THREADS', '1')


@pytest.fixture(autouse=True)
def default_scope():
    """Let no test find the default scope that another one has left.

    It decides what a type without a scope means, so that tests would pass or
    fail by the order they run in.
    """
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True, scope='module')
def imports_are_no_garbage():
    """Keep the search for garbage away from the modules of the stack.

    They are some 800,000 objects. MMEngine asks for a full search whenever
    it reads a data set, which would take half of the time of the tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def configs_are_quick():
    """To read and to write: what they say stays the same.

    For each config of mmdet or mmpretrain, MMEngine would read the 100 files
    of their model index anew, and for each one that it writes, seconds go
    into line breaks.
    """
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(config_utils.load)
        patch.setattr(config_utils, 'load', read)
        patch.setattr(yapf_api, 'FormatCode', lambda text, **_: (text, True))
        yield


@pytest.fixture(scope='session')
def mini_coco(tmp_path_factory):
    """A small mini_coco; not to be written to."""
    root = tmp_path_factory.mktemp('data') / 'mini_coco'
    return make_mini_coco(
        root, num_train=24, num_val=8, num_tune=4, num_test=6
    )


@pytest.fixture(scope='session')
def mini_digits(tmp_path_factory):
    """A small mini_digits; not to be written to."""
    root = tmp_path_factory.mktemp('data') / 'mini_digits'
    return make_mini_digits(root, max_scans=3, train_copies=2)


@pytest.fixture(scope='session')
def mini_faces(tmp_path_factory):
    """A small mini_faces; not to be written to."""
    root = tmp_path_factory.mktemp('data') / 'mini_faces'
    return make_mini_faces(
        root,
        num_ids=5,
        num_train=4,
        num_val=3,
        num_pairs=3,
        num_tune=2,
        num_test=1,
    )
