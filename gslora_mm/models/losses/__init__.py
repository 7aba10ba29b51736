from .bounded_forgetting import BoundedForgettingLoss, bounded_forgetting_loss
from .distillation import distillation_loss
from .group_sparsity import GroupSparsityLoss, group_norm, group_sparsity_loss
from .prototype import (
    PrototypeLoss,
    RelativePrototypeLoss,
    prototype_loss,
    relative_prototype_loss,
)
