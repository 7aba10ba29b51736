import os

import pytest
from mmengine.registry import DefaultScope

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
