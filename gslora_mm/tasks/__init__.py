from .base import ROLES, BaseTask, HalfBatch, Seen
from .classification import ClassificationTask
from .detection import DetectionTask
from .lookup import complete_task_config, task_named, task_of_scope
from .task_model import TaskModel

__all__ = [
    'ROLES',
    'BaseTask',
    'ClassificationTask',
    'DetectionTask',
    'HalfBatch',
    'Seen',
    'TaskModel',
    'complete_task_config',
    'task_named',
    'task_of_scope',
]


def complete_task_config(task: dict | None, scope: str | None) -> dict:
    """The task of a config, its type told by the library if need be."""
    from gslora_mm.registry import TASKS
    from gslora_mm.utils import ConfigError

    of_scope = {
        'mmdet': 'gslora_mm.DetectionTask',
        'mmpretrain': 'gslora_mm.ClassificationTask',
    }
    task = dict(task or {})
    if 'type' not in task and scope not in of_scope:
        TASKS.import_from_location()
        raise ConfigError(
            f'task.type is missing, and default_scope = {scope!r} does not '
            f'tell it; known tasks: {", ".join(sorted(TASKS.module_dict))}'
        )
    return {'type': of_scope.get(scope), **task}
