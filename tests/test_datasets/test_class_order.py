import random
import subprocess
import sys

import numpy as np
import pytest

from gslora_mm.datasets import ClassOrder, class_order
from gslora_mm.utils import ConfigError


@pytest.fixture
def global_generators():
    """Let a test use the global generators, as the papers' code does."""
    states = random.getstate(), np.random.get_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def test_orders_of_the_papers(global_generators):
    category_ids = np.arange(1, 91)[:80]
    np.random.seed(123)
    expected = category_ids.copy()
    np.random.shuffle(expected)
    order = class_order(category_ids.tolist(), seed=123, scheme='numpy')
    assert order == expected.tolist()

    expected = list(range(100))
    random.seed(1337)
    random.shuffle(expected)
    assert class_order(range(100), seed=1337, scheme='python') == expected


def test_orders_do_not_change_between_versions():
    assert class_order(range(8), 123, 'numpy') == [0, 1, 3, 7, 4, 2, 5, 6]
    assert class_order(range(8), 1337, 'python') == [0, 3, 7, 2, 1, 6, 4, 5]


@pytest.mark.parametrize('scheme', ['numpy', 'python'])
def test_nothing_else_is_touched(scheme, global_generators):
    items = list('abcdefgh')
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    order = class_order(items, 5, scheme)
    assert (random.random(), np.random.rand()) == expected
    assert items == list('abcdefgh') != order
    assert sorted(order) == items


def test_unknown_scheme():
    with pytest.raises(ConfigError, match=r"'nunpy'.*'numpy'"):
        class_order('ab', scheme='nunpy')


def test_steps_start_at_the_end_of_the_order():
    classes = [f'class {i}' for i in range(80)]
    steps = ClassOrder().steps(classes)
    order = class_order(classes, 123, 'numpy')
    assert steps[0] == order[70:]
    assert steps[1] == order[60:70]
    assert steps[6] == order[10:20]
    assert [len(step) for step in steps] == [10] * 7


def test_sizes_of_steps():
    order = ClassOrder('python', 1337, num_steps=2, classes_per_step=3)
    steps = order.steps('abcdefg')
    expected = class_order('abcdefg', 1337, 'python')
    assert steps == [expected[4:], expected[1:4]]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_steps=2, classes_per_step=2), 'forgets 4 of 4 classes'),
        (dict(num_steps=3, classes_per_step=2), 'forgets 6 of 4 classes'),
        (dict(num_steps=0), 'num_steps = 0: must be at least 1'),
        (dict(classes_per_step=0), 'classes_per_step = 0: must be at least 1'),
    ],
)
def test_impossible_steps(settings, message):
    with pytest.raises(ConfigError, match=message):
        ClassOrder(**settings).steps('abcd')


def test_light_to_import():
    code = (
        'import sys, gslora_mm.datasets.class_order;'
        'print(sorted({"mmdet", "mmpretrain", "sklearn"} & set(sys.modules)))'
    )
    output = subprocess.check_output([sys.executable, '-c', code], text=True)
    assert output.strip().endswith('[]')
