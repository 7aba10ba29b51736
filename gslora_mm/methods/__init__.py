from .base import BaseMethod
from .gs_lora import GSLoRA
from .proximal import group_soft_threshold

__all__ = ['BaseMethod', 'GSLoRA', 'group_soft_threshold']
