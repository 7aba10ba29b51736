"""Heads in full precision, where the rest of a model has less."""

from typing import Any

import torch
from torch import Tensor


def in_full_precision(found: Any) -> Any:
    """Tensors, in containers of any depth, as float32 at least."""
    if isinstance(found, dict):
        return {key: in_full_precision(each) for key, each in found.items()}
    if isinstance(found, tuple | list):
        return type(found)(map(in_full_precision, found))
    if isinstance(found, Tensor):
        is_half = found.dtype in (torch.bfloat16, torch.float16)
        return found.float() if is_half else found
    return found


def without_autocast(like: Tensor) -> torch.autocast:
    """Context without mixed precision on the device of a tensor."""
    return torch.autocast(like.device.type, enabled=False)
