from .bounded_forgetting import bounded_forgetting_loss
from .distillation import distillation_loss
from .group_sparsity import group_norm, group_sparsity_loss
from .prototype import prototype_loss

__all__ = [
    'bounded_forgetting_loss',
    'distillation_loss',
    'group_norm',
    'group_sparsity_loss',
    'prototype_loss',
]
