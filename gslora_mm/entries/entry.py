"""An entry of a config whose keys are the fields of a dataclass."""

import copy
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, ClassVar

from gslora_mm.methods.settings import check_setting, integer
from gslora_mm.utils import ConfigError


def default_of(field: Field) -> Any:
    """Default of a dataclass's field; ``MISSING`` if it has none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def check_count(key: str, value: Any, least: int, or_: str = '') -> None:
    """Refuse what is no integer from ``least`` on.

    Args:
        key (str): Config key that the error names.
        value (Any): What a config says.
        least (int): The smallest one.
        or_ (str): What else is possible, in words. Defaults to ``''``.

    Raises:
        ConfigError: If so.
    """
    rule = integer(f'must be an int >= {least}{or_}', lambda x: x >= least)
    check_setting(key, value, Annotated[int, rule])


class Entry:
    """An entry whose keys are the fields of a dataclass."""

    #: Meaning of each required key, for errors.
    meanings: ClassVar[dict[str, str]]

    @classmethod
    def read(cls, entry: Mapping) -> Any:
        """Make it of a config's entry, which is copied.

        Raises:
            ConfigError: If a key is unknown or missing, or has a value that
                it cannot have. Paths are those of the entry.
        """
        known = [each.name for each in fields(cls)]
        for each in fields(cls):
            if default_of(each) is MISSING and each.name not in entry:
                raise ConfigError(
                    each.name, valid=f'missing; {cls.meanings[each.name]}'
                )
        for name in entry:
            if name not in known:
                raise ConfigError(
                    name, valid='no such entry; known are ' + ', '.join(known)
                )
        return cls(**copy.deepcopy(dict(entry)))
