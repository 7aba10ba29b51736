from .base import BaseMethod
from .gs_lora import GSLoRA
from .gs_lora_pp import GSLoRAPP
from .proximal import group_soft_threshold

__all__ = ['BaseMethod', 'GSLoRA', 'GSLoRAPP', 'group_soft_threshold']
