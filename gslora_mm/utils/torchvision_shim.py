"""Let ``import torchvision`` succeed next to a torch of another build.

torchvision's operators live in a library that is compiled for one build of
torch. Next to another one (typically: a torchvision for CUDA and a torch for
CPU) the library does not load, and the import stops at "operator
torchvision::nms does not exist", although models, data sets and transforms
need none of these operators. Declaring the two operators that torchvision
looks up while it is imported is enough. They get no implementation: whoever
calls one is told by torchvision itself that its operators are not loaded.

Importing torchvision takes seconds, so this waits until somebody does.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from typing import Literal

ShimState = Literal['unneeded', 'active', 'failed']

_SCHEMA = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
# torch forgets the declarations when this object is deleted.
_library = None


class _AtImport:
    """Finder of torchvision that sees to its operators beforehand."""

    def find_spec(self, name: str, path=None, target=None):
        if name != 'torchvision':
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    """Loader of torchvision; the rest is what the real one has."""

    def __init__(self, real) -> None:
        self._real = real

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def exec_module(self, module) -> None:
        module.__loader__ = module.__spec__.loader = self._real
        try:
            self._real.exec_module(module)
        except Exception as error:
            if 'operator torchvision::' not in str(error):
                raise
            _declare_operators()
            # What was imported on the way to the error is of a package that
            # did not come about; start again from nothing.
            for name in list(sys.modules):
                if name.startswith('torchvision.'):
                    del sys.modules[name]
            self._real.exec_module(module)


def watch_torchvision() -> None:
    """See to torchvision's operators when it is imported, if it has not been.

    A matching pair of torch and torchvision never notices, and nothing is
    raised that the import alone would not raise: without torch, or with a
    torchvision that is broken in another way, the import itself fails.
    """
    if 'torchvision' not in sys.modules and not any(
        isinstance(finder, _AtImport) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _AtImport())


@functools.cache
def ensure_torchvision() -> ShimState:
    """Import torchvision and say how that went.

    Returns:
        str: ``'unneeded'`` if ``import torchvision`` works by itself,
        ``'active'`` if it works thanks to the declarations, ``'failed'`` if
        it does not work.
    """
    watch_torchvision()
    try:
        importlib.import_module('torchvision')
    except Exception:
        return 'failed'
    return 'unneeded' if _library is None else 'active'


def _declare_operators() -> None:
    global _library
    import torch

    _library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in ('nms', 'qnms'):
        _library.define(name + _SCHEMA)
