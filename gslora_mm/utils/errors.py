"""Errors that name what the user has to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting cannot work; raised before any training starts.

    The message names the config key, the value found and what would be
    valid.
    """


class SaveError(OSError):
    """A file could not be written; its previous version is untouched."""


def unknown_name(key: str, value: object, known: Iterable[str]) -> ConfigError:
    """Make the error for a name that is not among the known ones.

    Args:
        key (str): Config key that holds the name, for example
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
    message = f'{key}: unknown name {value!r}.'
    if nearest:
        message += f' Did you mean {_either(nearest)}?'
    if not known:
        message += ' There are no valid names at all.'
    elif len(known) <= 10:
        message += f' Valid: {", ".join(map(repr, known))}.'
    else:
        some = ', '.join(map(repr, known[:5]))
        message += f' Valid are {len(known)} names: {some}, ...'
    return ConfigError(message)


def _either(names: list[str]) -> str:
    """Join names the way a sentence does: ``'a', 'b' or 'c'``."""
    *first, last = map(repr, names)
    return f'{", ".join(first)} or {last}' if first else last
