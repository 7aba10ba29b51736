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


@contextlib.contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """Do not look for garbage in here.

    For what makes millions of objects that refer to nothing above them: every
    search would go through all those made so far.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
