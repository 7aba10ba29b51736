from .task import DetectionTask

__all__ = ['DetectionTask']
