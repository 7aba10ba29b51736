"""Errors that name what the user has to change."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class _Unsaid:
    def __reduce__(self) -> str:
        return 'UNSAID'  # the very same in another process


#: Stands for a value that an error does not show.
UNSAID: Any = _Unsaid()


class ConfigError(ValueError):
    """A setting cannot work; raised before any training starts.

    Its message reads ``context: path = value: valid``, without the parts
    that are not given. Who raises it names the entry as seen from there;
    who calls completes the path with :func:`config_path`.

    Args:
        path (str): Entry of the config, dotted, such as
            ``'forgetting.shots'``; or, alone, a whole message that is about
            no single entry.
        value (Any): What was found there. Left out if not given.
        valid (str): What is wrong with it, and what would be valid.
        context (str): What it is about, such as ``'step 3'``.
    """

    def __init__(
        self,
        path: str,
        value: Any = UNSAID,
        valid: str = '',
        context: str = '',
    ) -> None:
        self.path = path
        self.value = value
        self.valid = valid
        self.context = context
        super().__init__(path, value, valid, context)

    def __str__(self) -> str:
        found = '' if self.value is UNSAID else f' = {self.value!r}'
        parts = (self.context, f'{self.path}{found}', self.valid)
        return ': '.join(part for part in parts if part)

    def at(
        self,
        prefix: str = '',
        renamed: Mapping[str, str] | None = None,
        context: str = '',
    ) -> ConfigError:
        """The same error, as seen from further outside.

        Args:
            prefix (str): What comes before the path, such as
                ``'train_dataloader'``.
            renamed (Mapping[str, str], optional): Whole paths, as they are
                here, that have another name outside; the prefix is not put
                before these.
            context (str): What comes before the context.
        """
        path = self.path
        if self.valid or self.value is not UNSAID:  # else a whole message
            outside = (renamed or {}).get(path)
            inside = f'{prefix}.{path}' if prefix and path else prefix or path
            path = inside if outside is None else outside
        context = ': '.join(part for part in (context, self.context) if part)
        return type(self)(path, self.value, self.valid, context)


@contextlib.contextmanager
def config_path(
    prefix: str = '',
    renamed: Mapping[str, str] | None = None,
    context: str = '',
) -> Iterator[None]:
    """Let a ConfigError of the enclosed code name its place outside.

    Args:
        prefix (str): See :meth:`ConfigError.at`.
        renamed (Mapping[str, str], optional): See :meth:`ConfigError.at`.
        context (str): See :meth:`ConfigError.at`.
    """
    try:
        yield
    except ConfigError as error:
        raise error.at(prefix, renamed, context) from error.__cause__


@contextlib.contextmanager
def usable(path: str) -> Iterator[None]:
    """Name the entry of the config that the enclosed code builds from.

    Args:
        path (str): The entry.

    Raises:
        ConfigError: In place of any other exception.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            path, valid=f'cannot be used: {type(error).__name__}: {error}'
        ) from error


class SaveError(OSError):
    """A file could not be written; its previous version is untouched."""


def unknown_name(
    path: str, value: object, known: Iterable[str]
) -> ConfigError:
    """Make the error for a name that is not among the known ones.

    Args:
        path (str): Entry of the config that holds the name, for example
            ``'forgetting.steps'``.
        value (object): The name found.
        known (Iterable[str]): The names that would be valid.

    Returns:
        ConfigError: To be raised by the caller. Its message proposes the
        nearest known names, whatever their case, or else lists some.
    """
    known = list(known)
    by_lower_case = {name.lower(): name for name in reversed(known)}
    nearest = [
        by_lower_case[match]
        for match in difflib.get_close_matches(
            str(value).lower(), by_lower_case, n=3, cutoff=0.5
        )
    ]
    message = f'unknown name {value!r}.'
    if nearest:
        message += f' Did you mean {_either(nearest)}?'
    if not known:
        message += ' There are no valid names at all.'
    elif len(known) <= 10:
        message += f' Valid: {", ".join(map(repr, known))}.'
    else:
        some = ', '.join(map(repr, known[:5]))
        message += f' Valid are {len(known)} names: {some}, ...'
    return ConfigError(path, valid=message)


def _either(names: list[str]) -> str:
    """Join names the way a sentence does: ``'a', 'b' or 'c'``."""
    *first, last = map(repr, names)
    return f'{", ".join(first)} or {last}' if first else last
