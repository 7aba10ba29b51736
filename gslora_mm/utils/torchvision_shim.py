"""Let ``import torchvision`` succeed next to a torch of another build.

torchvision's operators live in a library that is compiled for one build of
torch. Next to another one (typically: a torchvision for CUDA and a torch for
CPU) the library does not load, and the import stops at "operator
torchvision::nms does not exist", although models, data sets and transforms
need none of these operators. Declaring the two operators that torchvision
looks up while it is imported is enough. They get no implementation: whoever
calls one is told by torchvision itself that its operators are not loaded.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Literal

ShimState = Literal['unneeded', 'active', 'failed']

_SCHEMA = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
# torch forgets the declarations when this object is deleted.
_library = None


@functools.cache
def ensure_torchvision() -> ShimState:
    """Declare torchvision's missing operators, if they really are missing.

    A matching pair of torch and torchvision never notices, and it never
    raises: without torch, without torchvision, or with one that is broken in
    another way, the import that needs it reports the error itself.

    Returns:
        str: ``'unneeded'`` if ``import torchvision`` works by itself,
        ``'active'`` if it works thanks to the declarations, ``'failed'`` if
        it does not work.
    """
    try:
        importlib.import_module('torchvision')
        return 'unneeded'
    except Exception as error:
        if 'operator torchvision::' not in str(error):
            return 'failed'
    _declare_operators()
    # Modules that were imported on the way to the error have lost their
    # parent package; start again from nothing.
    for name in list(sys.modules):
        if name.partition('.')[0] == 'torchvision':
            del sys.modules[name]
    try:
        importlib.import_module('torchvision')
        return 'active'
    except Exception:
        return 'failed'


def _declare_operators() -> None:
    global _library
    import torch

    _library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in ('nms', 'qnms'):
        _library.define(name + _SCHEMA)
