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
