from .adapted_model import AdaptedModel
from .heads import ArcFaceEmbeddingHead, CosFaceClsHead
from .losses import (
    bounded_forgetting_loss,
    group_sparsity_loss,
    prototype_loss,
)
from .stock import build_stock_model, load_stock_checkpoint
