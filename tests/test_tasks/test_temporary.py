import pytest
from torch import nn

from gslora_mm.tasks.temporary import temporarily


def test_attributes_and_methods_are_put_back():
    layer = nn.Linear(1, 1).eval()
    layer.name = 'mine'
    with pytest.raises(RuntimeError, match='inside'):
        with temporarily(
            layer, training=True, name='other', forward=lambda x: 7, new=1
        ):
            assert (layer.training, layer.name, layer.new) == (
                True,
                'other',
                1,
            )
            assert layer(None) == 7
            raise RuntimeError('inside')
    assert (layer.training, layer.name) == (False, 'mine')
    # That of the class, not a copy of it.
    assert not {'forward', 'new'} & set(vars(layer))


def test_changes_can_be_nested():
    layer = nn.Linear(1, 1)
    with temporarily(layer, forward=lambda x: 1):
        with temporarily(layer, forward=lambda x: 2):
            assert layer(None) == 2
        assert layer(None) == 1
