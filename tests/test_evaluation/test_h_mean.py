import math

import pytest

from gslora_mm.evaluation import h_mean

# Tables of the papers: retain, pre-trained forget, forget now, H-Mean.
# First row: faces, step 100-20. The others: COCO, 7 steps of 10, GS-LoRA.
PUBLISHED = [
    (74.16, 74.65, 0.0, 74.40),
    (44.15, 43.92, 3.47, 42.22),
    (44.64, 41.45, 3.94, 40.77),
    (42.01, 44.52, 7.77, 39.20),
    (43.22, 47.74, 6.88, 42.01),
    (40.04, 51.83, 0.20, 45.10),
    (41.86, 40.32, 1.33, 40.37),
    (43.64, 42.54, 2.84, 41.58),
]


@pytest.mark.parametrize('retain, before, now, published', PUBLISHED)
@pytest.mark.parametrize('unit', [1, 0.01], ids=['percent', 'fraction'])
def test_published_rows(retain, before, now, published, unit):
    value = h_mean(retain * unit, (before - now) * unit)
    assert value / unit == pytest.approx(published, abs=0.006)


def test_is_symmetric_and_between_its_arguments():
    assert h_mean(0.2, 0.8) == h_mean(0.8, 0.2) == pytest.approx(0.32)
    assert h_mean(0.5, 0.5) == 0.5


@pytest.mark.parametrize(
    'retain, drop',
    [(0, 0), (-0.1, -0.2), (0.4, 0), (0, 0.4), (0.4, -0.01), (0.1, -0.1)],
)
def test_nothing_kept_or_nothing_forgotten_is_zero(retain, drop):
    assert h_mean(retain, drop) == 0


@pytest.mark.parametrize('missing', [None, math.nan])
def test_undefined_scores_propagate_as_none(missing):
    assert h_mean(missing, 0.5) is None
    assert h_mean(0.5, missing) is None
    assert h_mean(missing, missing) is None
