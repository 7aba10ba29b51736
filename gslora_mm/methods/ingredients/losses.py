"""Registered losses of a method, which its config may replace."""

from typing import Any

from torch import nn

from gslora_mm.registry import MODELS
from gslora_mm.utils import config_path, usable

#: Type of a registered module, or its config with arguments.
LossConfig = str | dict


def build_loss(key: str, config: LossConfig, **settings: Any) -> nn.Module:
    """Build a loss that a method's config asks for.

    Args:
        key (str): Config key that errors name.
        config (str | dict): Type, or config.
        **settings: Arguments of the module, unless the config has them.

    Raises:
        ConfigError: If there is no such module, or it takes other arguments.
            One of the module itself names the entry below ``key``.
    """
    with usable(key), config_path(key):
        config = dict(type=config) if isinstance(config, str) else config
        return MODELS.build({**settings, **config})
