from .base import ROLES, BaseTask, HalfBatch, Seen
from .classification import ClassificationHalf, ClassificationTask
from .detection import DetectionHalf, DetectionTask
from .lookup import task_named
from .task_model import TaskModel

__all__ = [
    'ROLES',
    'BaseTask',
    'ClassificationHalf',
    'ClassificationTask',
    'DetectionHalf',
    'DetectionTask',
    'HalfBatch',
    'Seen',
    'TaskModel',
    'task_named',
]
