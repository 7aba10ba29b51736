"""Mean and standard deviation over runs."""

import pytest

from gslora_mm.utils.spread import spread, spread_text


def test_spread_over_runs():
    assert spread([1.0, None, 3.0]) == dict(mean=2, std=pytest.approx(2**0.5))
    assert spread([None, 3.0]) == dict(mean=3, std=None)
    assert spread([None]) == dict(mean=None, std=None)


@pytest.mark.parametrize(
    ('std', 'is_constant', 'text'),
    [
        (0.015, False, '12.5 ± 1.5'),
        (0.0, False, '12.5 ± 0.0'),
        (0.0, True, '12.5'),
        (None, False, '12.5'),
    ],
)
def test_as_text(std, is_constant, text):
    assert spread_text(dict(mean=0.125, std=std), 100, 1, is_constant) == text


def test_of_nothing_there_is_no_text():
    assert spread_text(dict(mean=None, std=None), 1, 0) == '-'
