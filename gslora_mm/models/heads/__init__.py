from .cosface_head import ArcFaceEmbeddingHead, CosFaceClsHead
from .embedding import EmbeddingMixin
