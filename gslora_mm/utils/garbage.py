"""Python's search for garbage, kept away from what never becomes any."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def nothing_is_garbage() -> Iterator[None]:
    """Do not look for garbage in here, nor later in what is made in here.

    For the imports of a script. The stack's modules are some 800,000
    objects, through which every full collection would go again, and MMEngine
    asks for one whenever it reads a data set.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
