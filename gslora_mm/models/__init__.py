from .forgetting_model import ForgettingModel, load_stock_checkpoint
from .losses import (
    bounded_forgetting_loss,
    group_sparsity_loss,
    prototype_loss,
)
from .tasks import BaseTask, DetectionTask, HalfBatch

__all__ = [
    'BaseTask',
    'DetectionTask',
    'ForgettingModel',
    'HalfBatch',
    'bounded_forgetting_loss',
    'group_sparsity_loss',
    'load_stock_checkpoint',
    'prototype_loss',
]
