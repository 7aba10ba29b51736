"""Tasks by the names that configs and reports know them by."""

from gslora_mm.registry import TASKS
from gslora_mm.utils import unknown_name
from .base import BaseTask


def task_named(name: str) -> type[BaseTask]:
    """The task that a report names.

    Args:
        name (str): ``task`` of ``report.json``.

    Returns:
        type[BaseTask]: A task of this package, or of a user whose module has
        been imported; of several with this name the one that was registered
        first.

    Raises:
        ConfigError: If no such task is registered.
    """
    TASKS.import_from_location()
    known: dict[str, type[BaseTask]] = {}
    for task in TASKS.module_dict.values():
        known.setdefault(task.name, task)
    if name not in known:
        raise unknown_name('task', name, known)
    return known[name]
