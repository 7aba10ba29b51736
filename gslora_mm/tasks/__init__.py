from .base import BaseTask
from .classification import ClassificationTask
from .detection import DetectionTask
from .half_batch import ROLES, HalfBatch, Seen
from .lookup import complete_task_config, task_named, task_of_scope
from .object_rows import ObjectRows
from .task_model import TaskModel

__all__ = [
    'ROLES',
    'BaseTask',
    'ClassificationTask',
    'DetectionTask',
    'HalfBatch',
    'ObjectRows',
    'Seen',
    'TaskModel',
    'complete_task_config',
    'task_named',
    'task_of_scope',
]
