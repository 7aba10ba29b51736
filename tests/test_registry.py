"""The library that the types of a config are looked up in."""

import pytest
from mmengine.registry import DefaultScope

from gslora_mm.registry import init_scope


@pytest.mark.parametrize(
    ('cfg', 'scope'),
    [({}, 'mmdet'), (dict(default_scope='mmpretrain'), 'mmpretrain')],
)
def test_the_scope_of_a_config(cfg, scope):
    assert init_scope(cfg) == scope
    assert DefaultScope.get_current_instance().scope_name == scope
