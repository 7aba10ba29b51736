from .base import ROLES, BaseTask, HalfBatch, Seen
from .classification import ClassificationHalf, ClassificationTask
from .detection import DetectionHalf, DetectionTask

__all__ = [
    'ROLES',
    'BaseTask',
    'ClassificationHalf',
    'ClassificationTask',
    'DetectionHalf',
    'DetectionTask',
    'HalfBatch',
    'Seen',
]
