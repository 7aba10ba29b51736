import pytest

from gslora_mm.entries import ScheduleEntry
from gslora_mm.entries.cache import CacheEntry
from gslora_mm.utils import ConfigError

SCHEDULE = dict(
    max_iters=3, batch_size=2, optim_wrapper=dict(type='OptimWrapper')
)


def test_is_part_of_the_schedule():
    assert ScheduleEntry.read(SCHEDULE).cache == CacheEntry(use='auto')
    cache = dict(use='on', limit_gib=8, store='file', variants=4)
    schedule = ScheduleEntry.read({**SCHEDULE, 'cache': cache})
    assert schedule.cache == CacheEntry(**cache)


@pytest.mark.parametrize(
    'cache, path',
    [
        ('off', 'cache'),
        (dict(use=True), 'cache.use'),
        (dict(store='disk'), 'cache.store'),
        (dict(limit_gib=0), 'cache.limit_gib'),
        (dict(limit_gib=float('inf')), 'cache.limit_gib'),
        (dict(variants=0), 'cache.variants'),
        (dict(variants=True), 'cache.variants'),
        (dict(variants=1.5), 'cache.variants'),
        (dict(size=3), 'cache.size'),
    ],
)
def test_refuses_what_means_nothing(cache, path):
    with pytest.raises(ConfigError) as error:
        ScheduleEntry.read({**SCHEDULE, 'cache': cache})
    assert error.value.path == path
