import pytest

from gslora_mm.registry import TASKS
from gslora_mm.tasks import (
    ClassificationTask,
    DetectionTask,
    complete_task_config,
    task_named,
    task_of_scope,
)
from gslora_mm.utils import ConfigError


@pytest.fixture
def own_task():
    """A user's task, registered as long as a test lasts."""

    @TASKS.register_module(name='OwnTask')
    class Task(ClassificationTask):
        name = 'own'
        scope = 'mmown'

    yield Task
    TASKS.module_dict.pop('OwnTask')


def test_tasks_by_the_name_in_a_report():
    assert task_named('detection') is DetectionTask
    assert task_named('classification') is ClassificationTask
    with pytest.raises(
        ConfigError, match="task: unknown name 'detektion'.*'detection'"
    ):
        task_named('detektion')


def test_tasks_by_the_library_of_their_models():
    assert task_of_scope('mmdet') is DetectionTask
    assert task_of_scope('mmpretrain') is ClassificationTask
    for scope in ('mmengine', None):
        with pytest.raises(
            ConfigError,
            match=f'task.type: is missing, and default_scope = {scope!r} '
            'does not tell it; known tasks: ClassificationTask, Detection',
        ):
            task_of_scope(scope)


def test_a_task_of_a_user_is_found(own_task):
    assert task_named('own') is own_task
    assert task_of_scope('mmown') is own_task
    # By the name that it is registered under.
    assert complete_task_config(None, 'mmown') == dict(
        type='gslora_mm.OwnTask'
    )
    assert isinstance(TASKS.build(dict(type='gslora_mm.OwnTask')), own_task)


def test_a_variant_of_a_task_has_to_be_asked_for():
    @TASKS.register_module()
    class Variant(DetectionTask):
        pass

    try:
        assert task_named('detection') is DetectionTask
        assert task_of_scope('mmdet') is DetectionTask
    finally:
        TASKS.module_dict.pop('Variant')


def test_the_entry_of_a_config_is_completed():
    assert complete_task_config(None, 'mmdet') == dict(
        type='gslora_mm.DetectionTask'
    )
    entry = dict(forget_queries='matched')
    assert complete_task_config(entry, 'mmdet') == dict(
        type='gslora_mm.DetectionTask', forget_queries='matched'
    )
    assert 'type' not in entry
    # Whoever names the task need not have a scope.
    entry = dict(type='ClassificationTask')
    assert complete_task_config(entry, None) == entry


def test_what_reports_and_tools_ask():
    for task, unit, score in (
        (DetectionTask(), 'object', 'AP'),
        (ClassificationTask(), 'image', 'Acc'),
    ):
        assert (task.unit, task.score_name) == (unit, score)
        assert task.picture_note.endswith('.')


@pytest.mark.parametrize('show_dir', [None, 'painted'])
def test_hooks_that_paint_predictions(show_dir):
    shown = dict(show=True, wait_time=3.0)
    assert DetectionTask().picture_hook(show_dir, 'work', **shown) == dict(
        type='DetVisualizationHook',
        draw=True,
        test_out_dir=show_dir,
        **shown,
    )
    hook = ClassificationTask().picture_hook(show_dir, 'work', **shown)
    assert hook == dict(
        type='VisualizationHook',
        enable=True,
        interval=1,
        out_dir=show_dir and 'work/painted',
        **shown,
    )
