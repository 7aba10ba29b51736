"""Continual forgetting for mmdet and mmpretrain models.

Importing the package is light on purpose: the pieces live in
:mod:`gslora_mm.lora`, :mod:`gslora_mm.models`, :mod:`gslora_mm.methods`,
:mod:`gslora_mm.datasets`, :mod:`gslora_mm.sequence` and
:mod:`gslora_mm.evaluation`, and configs reach them as ``gslora_mm.Name``.
"""

from .utils.torchvision_shim import ensure_torchvision
from .version import __version__

ensure_torchvision()

__all__ = ['__version__']
