import pickle

import pytest

from gslora_mm.utils import ConfigError, SaveError, unknown_name

COCO = [
    'person',
    'bicycle',
    'car',
    'motorcycle',
    'airplane',
    'bus',
    'train',
    'truck',
    'boat',
    'traffic light',
    'fire hydrant',
]


@pytest.mark.parametrize(
    'error',
    [
        ConfigError('a whole message'),
        ConfigError('lr', valid='must be there'),
        ConfigError('lr', 0, 'must be > 0', 'step 3').at('schedule'),
    ],
)
def test_another_process_says_the_same(error):
    same = pickle.loads(pickle.dumps(error))
    assert str(same) == str(error) and same.path == error.path


def test_errors_are_of_the_usual_kinds():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(SaveError, OSError)


@pytest.mark.parametrize(
    'found, proposed',
    [
        ('peson', "Did you mean 'person'?"),
        ('Traffic Light', "Did you mean 'traffic light'?"),
        ('trucks', "Did you mean 'truck'?"),
    ],
)
def test_unknown_name_proposes_the_nearest(found, proposed):
    error = unknown_name('forgetting.steps', found, COCO)
    assert isinstance(error, ConfigError)
    assert f'forgetting.steps: unknown name {found!r}.' in str(error)
    assert proposed in str(error)


def test_unknown_name_lists_what_is_valid():
    few = str(unknown_name('key', 'x', ['alpha', 'beta']))
    assert "Valid: 'alpha', 'beta'." in few
    assert 'Did you mean' not in few
    many = str(unknown_name('key', 'xyz', COCO))
    assert "11 names: 'person', 'bicycle', 'car', 'motorcycle'" in many
    assert 'no valid names' in str(unknown_name('key', 'x', []))


def test_unknown_name_of_another_type():
    assert 'unknown name 3.' in str(unknown_name('key', 3, ['a']))


def test_several_near_names_read_as_a_sentence():
    message = str(unknown_name('key', 'trucc', ['dog', 'trucks', 'truck']))
    assert "Did you mean 'truck' or 'trucks'?" in message
