from .task import ClassificationTask

__all__ = ['ClassificationTask']
