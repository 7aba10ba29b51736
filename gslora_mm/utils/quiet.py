"""Keep a user's console free of what the stack says about itself."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator

#: Warnings of the stack that no user of this package can act on, by the
#: beginning of their text.
NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'torch.meshgrid: in an upcoming release',
    'faster_coco_eval is not installed',
    '`torch.jit.',
    '`broadcast_buffers` is deprecated',
    'Setting MKL_NUM_THREADS',
    'Setting OMP_NUM_THREADS',
    'checkpoint is None, use COCO classes',
    # mmpretrain's MNIST data sets.
    'The given NumPy array is not writable',
    "__array__ implementation doesn't accept a copy keyword",
)


def hush() -> None:
    """Ignore the warnings of :data:`NOISE` for the rest of the process."""
    for beginning in NOISE:
        warnings.filterwarnings('ignore', message=re.escape(beginning))


@contextlib.contextmanager
def no_prints() -> Iterator[None]:
    """Swallow what the enclosed code prints (pycocotools, imports)."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def no_info() -> Iterator[None]:
    """Let the enclosed code log warnings and errors only, with MMEngine.

    It has a line for each parameter that it initialises.
    """
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
