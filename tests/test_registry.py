"""The library that the types of a config are looked up in."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from gslora_mm.registry import init_scope

CONFIGS = Path(__file__).parents[1] / 'configs'
BASES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if not {'ablations', 'benchmarks'} & set(path.parts)
)


@pytest.mark.parametrize(
    ('cfg', 'scope'),
    [({}, 'mmdet'), (dict(default_scope='mmpretrain'), 'mmpretrain')],
)
def test_the_scope_of_a_config(cfg, scope):
    assert init_scope(cfg) == scope
    assert DefaultScope.get_current_instance().scope_name == scope


@pytest.mark.parametrize('name', BASES)
def test_every_config_can_be_a_base_from_anywhere(name, tmp_path):
    """MMEngine marks it with our scope, in which no type of mmdet is."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'gslora_mm::{name}'\n")
    inherited = Config.fromfile(path)
    init_scope(inherited)
    plain = Config.fromfile(CONFIGS / name)
    assert inherited.to_dict() == plain.to_dict()
    assert "_scope_='gslora_mm'" not in inherited.text + str(inherited)
