"""Errors, files, safe checkpoints and a check of the installation.

Importing this package is light: no torch, no mm*. What needs torch is
imported from its module: :mod:`gslora_mm.utils.checkpoint`.
"""

from .atomic import (
    atomic_path,
    atomic_write,
    load_json,
    remove_leftovers,
    save_json,
    save_torch,
)
from .errors import (
    ConfigError,
    SaveError,
    config_path,
    unknown_name,
    usable,
)
