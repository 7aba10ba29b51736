"""Types that say what a setting may be."""

import math
from typing import Annotated, Literal

import pytest

from gslora_mm.methods import (
    Count,
    NonNegative,
    PerStep,
    Positive,
    Seed,
    Share,
)
from gslora_mm.methods.settings import Whole, check_setting, is_per_step, path
from gslora_mm.utils import ConfigError

File = Annotated[str | None, path('must be a path, or None')]
GOOD = [
    (NonNegative, (0, 1e-9, 3, 1e9)),
    (Positive, (1e-9, 3)),
    (Share, (0, 0.5, 1)),
    (Whole, (0, 3, 2.0)),
    (Count, (1, 10**9)),
    (Seed, (0, 2**32 - 1)),
    (File, (None, 'a/b')),
    (Literal['a', 'b'], ('a', 'b')),
    (Positive | None, (None, 1.0)),
    (PerStep[Positive | None], (None, 1.0)),
    (bool, (True, 'whatever')),
]
BAD = [
    (NonNegative, (-1, math.inf, math.nan, '1', True, [1.0]), 'number >= 0'),
    (Positive, (0, -1, math.inf, math.nan, 'a', None), 'number > 0'),
    (Whole, (-1, 2.5, math.inf, math.nan, '1', None), 'integer >= 0'),
    (Share, (-0.1, 1.1, math.nan, 'a'), r'\[0, 1\]'),
    (Count, (0, 1.0, '1', None, True), 'integer >= 1'),
    (Seed, (-1, 2**32, 0.0, None), r'0 ... 2\*\*32 - 1'),
    (File, (3, ['a']), 'a path, or None'),
    (Literal['a', 'b'], ('c', None, ['a']), r"one of \('a', 'b'\)$"),
    (Literal['a', None], ('c',), r"one of \('a',\), or None$"),
    (Positive | None, (0,), 'number > 0'),
    (PerStep[NonNegative], (-1, [1.0]), 'number >= 0'),
    (PerStep[Positive | None], (0, 'a'), 'number > 0'),
]


@pytest.mark.parametrize(('hint', 'values'), GOOD)
def test_what_is_valid_passes(hint, values):
    for value in values:
        check_setting('method.x', value, hint)


@pytest.mark.parametrize(('hint', 'values', 'words'), BAD)
def test_what_is_not_is_named_with_its_value(hint, values, words):
    for value in values:
        with pytest.raises(ConfigError, match=words) as error:
            check_setting('method.x', value, hint)
        assert str(error.value).startswith(f'method.x = {value!r}: must be')


def test_lists():
    assert is_per_step(PerStep[NonNegative]) and is_per_step(
        PerStep[Positive | None]
    )
    assert not is_per_step(NonNegative) and not is_per_step(bool)
