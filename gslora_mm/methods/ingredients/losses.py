"""Registered losses of a method, which its config may replace."""

from dataclasses import field
from typing import Any

from torch import nn

from gslora_mm.registry import MODELS
from gslora_mm.utils import usable


def default_loss(kind: str) -> Any:
    """Make a field for the config of a loss that a config may replace.

    Args:
        kind (str): Type of the registered module that it is by default.
    """
    return field(default_factory=lambda: dict(type=kind))


def build_loss(key: str, config: dict, **settings: Any) -> nn.Module:
    """Build the loss that a method's config asks for.

    Args:
        key (str): Config key that errors name.
        config (dict): Of a registered module.
        **settings: Its further arguments, unless the config has them.

    Raises:
        ConfigError: If there is no such module, or it takes other arguments.
    """
    with usable(key):
        return MODELS.build({**settings, **config})
