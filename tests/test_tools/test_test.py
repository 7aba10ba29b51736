"""tools/test.py, what comes before any evaluation."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from gslora_mm.utils import ConfigError
from tests.test_tools.helpers import load_tool


@pytest.fixture(scope='module')
def tool():
    return load_tool('test')


def arguments(**settings):
    defaults = dict(out=None, show=False, show_dir=None, wait_time=2)
    return SimpleNamespace(**dict(defaults, **settings))


@pytest.mark.parametrize(
    'scope, dump',
    [
        ('mmdet', 'DumpDetResults'),
        ('mmpretrain', 'DumpResults'),
        ('mmseg', 'DumpResults'),
        (None, 'DumpResults'),
    ],
)
def test_predictions_of_any_library_can_be_written(tool, scope, dump):
    cfg = Config(dict(test_evaluator=dict(type='Metric')))
    task = tool.build_task(None, scope)
    tool.add_outputs(cfg, task, arguments(out='predictions.pkl'))
    assert [evaluator.type for evaluator in cfg.test_evaluator] == [
        'Metric', dump,
    ]  # fmt: skip


def test_pictures_need_a_task(tool):
    cfg = Config(dict(work_dir='run', default_hooks={}))
    task = tool.build_task(None, 'mmseg')
    with pytest.raises(ConfigError, match='^--show and --show-dir: no pred'):
        tool.add_outputs(cfg, task, arguments(show=True))
    task = tool.build_task(None, 'mmdet')
    tool.add_outputs(cfg, task, arguments(show_dir='painted'))
    hook = cfg.default_hooks.visualization
    assert hook.type == 'DetVisualizationHook'


def test_a_task_that_is_not_known_is_named(tool):
    with pytest.raises(ConfigError, match="^task.type: unknown name 'Depth'"):
        tool.build_task(dict(type='Depth'), 'mmseg')


def test_nothing_is_written_into_a_finished_step(tool, tmp_path):
    """The config that a run left says where it lies, or where it lay."""
    left = Config(
        dict(work_dir='a/run/step_03', runner_type='gslora_mm.Runner')
    )
    for path in (tmp_path / 'run/step_03/config.py', 'run/step_03/config.py'):
        assert tool.default_work_dir(str(path), left) == (
            'work_dirs/test/run/step_03'
        )
    older = Config(dict(left, runner_type='gslora_mm.QuietRunner'))
    assert tool.default_work_dir('run/step_03/config.py', older) == (
        'work_dirs/test/run/step_03'
    )
    # As in mmdet.
    assert tool.default_work_dir('mine.py', Config()) == 'work_dirs/mine'
    named = Config(dict(work_dir='there'))
    assert tool.default_work_dir('mine.py', named) == 'there'
