"""Continual forgetting for mmdet and mmpretrain models.

Importing the package is light on purpose: the pieces live in its folders,
which ``docs/en/architecture.md`` draws, and configs reach them as
``gslora_mm.Name``.
"""

from .utils.torchvision_shim import watch_torchvision
from .version import __version__

watch_torchvision()

__all__ = ['__version__']
