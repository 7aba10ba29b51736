"""What of a run's log reaches the console."""

import logging
from collections.abc import Collection

from gslora_mm.utils.quiet import NOISE


def show_only(logger: logging.Logger, modules: Collection[str]) -> None:
    """Keep a logger's console to what matters; its files get all.

    Args:
        logger (logging.Logger): With its handlers.
        modules (Collection[str]): Modules whose records are shown, by file
            name without ``.py``. Warnings are shown whoever gives them,
            except those that no user can act on.
    """

    def matters(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return not record.getMessage().startswith(NOISE)
        return record.module in modules

    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(matters)
