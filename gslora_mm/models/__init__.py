from .forgetting_model import ForgettingModel, load_stock_checkpoint
from .heads import ArcFaceEmbeddingHead, CosFaceClsHead
from .losses import (
    bounded_forgetting_loss,
    group_sparsity_loss,
    prototype_loss,
)
from .tasks import (
    BaseTask,
    ClassificationTask,
    DetectionTask,
    HalfBatch,
)

__all__ = [
    'ArcFaceEmbeddingHead',
    'BaseTask',
    'ClassificationTask',
    'CosFaceClsHead',
    'DetectionTask',
    'ForgettingModel',
    'HalfBatch',
    'bounded_forgetting_loss',
    'group_sparsity_loss',
    'load_stock_checkpoint',
    'prototype_loss',
]
