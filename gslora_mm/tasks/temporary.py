"""Objects that are otherwise for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def temporarily(owner: object, **values: Any) -> Iterator[None]:
    """Give one object other attributes or methods while a block runs.

    Args:
        owner (object): Changed in place, and put back at the end.
        **values: By name.
    """
    before = {key: vars(owner)[key] for key in values if key in vars(owner)}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in values:
            delattr(owner, name)  # what its class has is back
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Compute as at test time while a block runs.

    Args:
        model (nn.Module): The mode of each of its modules is put back at the
            end: a method may have part of them in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
