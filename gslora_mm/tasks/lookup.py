"""Tasks by the names that configs and reports know them by."""

from collections.abc import Mapping

from gslora_mm.registry import TASKS, registered
from gslora_mm.utils import ConfigError, unknown_name
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
    known: dict[str, type[BaseTask]] = {}
    for task in registered(TASKS).values():
        known.setdefault(task.name, task)
    if name not in known:
        raise unknown_name('task', name, known)
    return known[name]


def task_of_scope(scope: str | None) -> type[BaseTask]:
    """The task that reads the models of a library.

    Args:
        scope (str | None): ``default_scope`` of a config, such as
            ``'mmdet'``.

    Raises:
        ConfigError: If no registered task has this scope.
    """
    tasks = registered(TASKS)
    for task in tasks.values():
        if scope is not None and task.scope == scope:
            return task
    raise ConfigError(
        'task.type',
        valid=f'is missing, and default_scope = {scope!r} does not tell it; '
        f'known tasks: {", ".join(sorted(tasks))}',
    )


def complete_task_config(task: Mapping | None, scope: str | None) -> dict:
    """The entry ``task`` of a config, its type told by the library if need be.

    Args:
        task (Mapping, optional): ``cfg.task``, if there is one.
        scope (str | None): ``default_scope`` of the config.

    Raises:
        ConfigError: See :func:`task_of_scope`.
    """
    task = dict(task or {})
    if 'type' in task:
        return task
    found = task_of_scope(scope)
    name = next(n for n, cls in registered(TASKS).items() if cls is found)
    return {'type': f'gslora_mm.{name}', **task}
