"""What the settings of a method may be, as the types of its fields.

A field ``beta: PerStep[NonNegative] = 1.0`` is a finite number >= 0, and a
config may give one for each step. A value that breaks the rule of its type is
reported by :func:`check_setting` before anything is trained.
"""

import math
from collections.abc import Callable
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from gslora_mm.utils import ConfigError


class Rule(NamedTuple):
    """What a value has to be, for ``Annotated[float, Rule(...)]``.

    Attributes:
        valid (str): The rule in words, for errors.
        holds (Callable): Whether a value of any type keeps to it.
    """

    valid: str
    holds: Callable[[Any], bool]


def _is(value: Any, types: type | UnionType) -> bool:
    # For Python, True and False are integers.
    return isinstance(value, types) and not isinstance(value, bool)


def number(valid: str, holds: Callable[[float], bool]) -> Rule:
    """Make the rule of a number, for which only its size is to be tested."""
    return Rule(valid, lambda x: _is(x, int | float) and holds(x))


def integer(valid: str, holds: Callable[[int], bool]) -> Rule:
    """Make the rule of an integer, for which only its size is to be tested."""
    return Rule(valid, lambda x: _is(x, int) and holds(x))


def path(valid: str) -> Rule:
    """Make the rule of a path that may be left out."""
    return Rule(valid, lambda x: x is None or isinstance(x, str))


NonNegative = Annotated[
    float,
    number('must be a finite number >= 0', lambda x: 0 <= x < math.inf),
]
Positive = Annotated[
    float,
    number('must be a finite number > 0', lambda x: 0 < x < math.inf),
]
Share = Annotated[
    float, number('must be a number in [0, 1]', lambda x: 0 <= x <= 1)
]
#: An integer that a config may have computed: 2.0 is one, 2.5 is none.
Whole = Annotated[
    float,
    number(
        'must be an integer >= 0',
        lambda x: x >= 0 and float(x).is_integer(),
    ),
]
Count = Annotated[int, integer('must be an integer >= 1', lambda x: x >= 1)]
Seed = Annotated[
    int,
    integer('must be an integer in 0 ... 2**32 - 1', lambda x: 0 <= x < 2**32),
]

_ONE_A_STEP = 'one value a step'
_T = TypeVar('_T')
#: A setting for which a config may give a list, with one value for each step
#: of the sequence. The method itself always gets the value of its step.
PerStep = Annotated[_T, _ONE_A_STEP]


_SEVERAL = 'one value or several'
#: A setting of an attack that may be one value or a list of them, of which
#: none is empty. The attack itself always gets a tuple.
Several = Annotated[_T, _SEVERAL]


def is_per_step(hint: Any) -> bool:
    """Whether a setting of this type may be a list in a config."""
    return get_origin(hint) is Annotated and _ONE_A_STEP in hint.__metadata__


def as_several(key: str, value: Any, hint: Any) -> Any:
    """Make a tuple of the value of a setting that may have several.

    Args:
        key (str): Config key that the error names.
        value (Any): What a config says.
        hint (Any): Type of the setting.

    Returns:
        Any: A tuple if it is a ``Several``, else the value as it is.

    Raises:
        ConfigError: If there is no value, or one breaks a rule.
    """
    if get_origin(hint) is not Annotated or _SEVERAL not in hint.__metadata__:
        check_setting(key, value, hint)
        return value
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ConfigError(key, value, 'must be one value or more')
    for each in values:
        check_setting(key, each, hint)
    return values


def check_setting(key: str, value: Any, hint: Any) -> None:
    """Refuse a value that breaks a rule of its type.

    Args:
        key (str): Config key that the error names.
        value (Any): What a config says.
        hint (Any): Type of the setting. Types without a rule, such as plain
            ``bool``, allow everything.

    Raises:
        ConfigError: If so.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        for rule in args[1:]:
            if isinstance(rule, Rule) and not rule.holds(value):
                raise ConfigError(key, value, rule.valid)
        check_setting(key, value, args[0])
    elif origin is Literal and value not in args:
        names = tuple(name for name in args if name is not None)
        or_none = ', or None' if None in args else ''
        raise ConfigError(key, value, f'must be one of {names}{or_none}')
    elif origin in (Union, UnionType) and value is not None:
        for choice in args:
            if choice is not NoneType:
                check_setting(key, value, choice)
