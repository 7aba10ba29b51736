from .base import ROLES, BaseTask, HalfBatch
from .detection import DetectionHalf, DetectionTask

__all__ = ['ROLES', 'BaseTask', 'DetectionHalf', 'DetectionTask', 'HalfBatch']
