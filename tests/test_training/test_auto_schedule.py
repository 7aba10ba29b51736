import pytest

from gslora_mm.training.auto_schedule import AutoSchedule
from gslora_mm.training.held_out import Look
from gslora_mm.utils import ConfigError


def walk(named_at, limit=300, surety_at=None, **settings):
    """A schedule that sees given shares of recognised objects.

    Args:
        named_at: The share by the number of iterations finished.
        limit: Most iterations of the step.
        surety_at: The mean probability; as the share if None.
        **settings: Of the schedule.
    """
    schedule = AutoSchedule(**settings)
    surety_at = surety_at or named_at
    rates = []

    def look(done):
        return Look(named_at(done), surety_at(done), 1.0)

    schedule.looks.append((0, look(0)))
    for done in range(1, limit + 1):
        rates.append(schedule.rate(done - 1))
        if schedule.is_due(done, limit):
            schedule.decide(done, look(done), limit)
        if schedule.now.phase == 'end':
            break
    return schedule, rates


def test_the_rate_rises_is_found_and_falls():
    schedule, rates = walk(lambda done: float(done < 40), rise=60)
    phases = [course.phase for course in schedule.course]
    assert phases == ['rise', 'repair', 'end']
    found = schedule.course[1]
    assert found.since == found.start == 40
    assert found.lr == pytest.approx(0.5e-4 * 300 ** (39 / 60))
    assert rates[:40] == pytest.approx(
        [1e-4 * 300 ** (i / 60) for i in range(40)]
    )
    # As long as forgetting took, but 60 iterations at least.
    assert len(rates) == found.end == 100
    assert rates[40] == found.lr
    assert rates[70] == pytest.approx(found.lr * 0.505)
    assert rates[40:] == sorted(rates[40:], reverse=True)


def test_the_rate_is_found_where_the_model_is_half_as_sure():
    schedule, rates = walk(
        lambda done: max(0.0, 1 - done / 80),
        surety_at=lambda done: max(0.0, 1 - done / 100) * (done < 80),
        rise=120,
    )
    push = schedule.course[1]
    assert (push.phase, push.since) == ('push', 50)
    assert set(rates[50:80]) == {push.lr}
    repair = schedule.course[-2]
    assert (repair.since, repair.end) == (80, 160)


def test_the_rate_ends_at_the_highest_allowed():
    schedule, rates = walk(lambda done: 1.0, max_lr=0.01)
    assert max(rates) == 0.01
    assert schedule.course[1].lr == 0.005


def test_forgetting_weighs_more_while_nothing_moves():
    schedule, _ = walk(
        lambda done: 0.5 if done < 100 else 0.0,
        surety_at=lambda done: 1.0 if done < 20 else 0.1 * (done < 100),
    )
    weights = [(course.since, course.weight) for course in schedule.course]
    assert weights[:2] == [(0, 1.0), (20, 1.0)]
    assert weights[2:6] == [
        (40, 1.5),
        (60, 1.5**2),
        (80, 1.5**3),
        (100, 1.5**3),
    ]


def test_what_comes_back_is_pushed_again():
    schedule, rates = walk(
        lambda done: float(done < 20 or done in (80, 100)), min_repair=40
    )
    by_time = {course.since: course for course in schedule.course}
    assert by_time[20].end == 60
    assert by_time[60].phase == 'end'
    schedule, rates = walk(
        lambda done: float(done < 20 or done == 60), min_repair=40
    )
    again = schedule.course[2]
    assert (again.phase, again.start, again.end) == ('repair', 60, 100)
    assert again.weight == 1.5
    assert rates[60] == rates[20] == again.lr
    assert len(rates) == 100


def test_it_ends_in_time_whatever_it_sees():
    schedule, rates = walk(lambda done: 1.0, limit=90)
    repair = next(c for c in schedule.course if c.phase == 'repair')
    assert (repair.since, repair.end) == (60, 90)
    assert len(rates) == 90 and schedule.now.phase == 'end'


def test_a_deeper_level_takes_the_whole_time():
    _, rates = walk(lambda done: float(done < 40), is_whole=True)
    assert len(rates) == 300


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(raise_weight=0.5), 'raise_weight = 0.5: must be above 1'),
        (dict(start_lr=0.1), 'start_lr = 0.1: must be at most max_lr = 0.03'),
        (dict(target=2), r'target = 2: must be a number in \[0, 1\]'),
        (dict(interval=0), 'interval = 0: must be an integer >= 1'),
        (dict(take_back=2), r'take_back = 2: must be a number in \[0, 1\]'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=f'^AutoScheduleHook.{message}'):
        AutoSchedule(**settings)


def test_a_short_step_rises_faster():
    schedule = AutoSchedule()
    schedule.fit_into(300)
    assert schedule.rise == 40
    schedule.fit_into(35)
    assert schedule.rise == 5
    assert schedule.rate(5) == schedule.rate(9) == pytest.approx(0.03)


def test_what_is_not_recognised_but_likely_is_not_gone():
    schedule, _ = walk(
        lambda done: float(done < 40),
        surety_at=lambda done: 0.021 if 40 <= done < 100 else done < 40,
    )
    repair = next(c for c in schedule.course if c.phase == 'repair')
    assert repair.since == 100


def test_progress_is_judged_over_a_whole_interval():
    """The rate is found at 35; 40 is the next look, and 60 the one after."""
    schedule, _ = walk(
        lambda done: float(done < 60),
        surety_at=lambda done: (1.0 if done < 35 else 0.4) * (done < 60),
    )
    assert [course.since for course in schedule.course[:3]] == [0, 35, 60]
    assert {course.weight for course in schedule.course} == {1.0}


def test_the_weight_of_forgetting_has_an_end():
    schedule, _ = walk(lambda done: 1.0, raise_weight=4.0)
    assert max(course.weight for course in schedule.course) == 16.0


@pytest.mark.parametrize(
    'gone_at, surety, kept',
    [
        (0.0, 0.0, 0.75),  # the least that is looked at is one half
        (0.75, 0.0, 0.9),
        (0.95, 0.0, 1.0),
        (2.0, 0.0, 1.0),  # nothing is gone at all
        (0.0, 0.006, 1.0),  # not recognised, but not far from it
    ],
)
def test_the_update_goes_half_of_the_way_back(gone_at, surety, kept):
    schedule = AutoSchedule()
    schedule.take_part(
        lambda part: Look(float(part < gone_at), surety, None)
    )
    assert schedule.now.kept == pytest.approx(kept)


@pytest.mark.parametrize(
    'is_spared, surety, kept',
    [(True, 0.004, 0.75), (False, 0.004, 1.0), (False, 0.002, 0.75)],
)
def test_what_is_trained_on_has_to_be_further_gone(is_spared, surety, kept):
    schedule = AutoSchedule()
    schedule.take_part(lambda part: Look(0.0, surety, None), is_spared)
    assert schedule.now.kept == kept


def test_all_of_the_way_back_and_nothing_of_it():
    for take_back, kept in ((1.0, 0.5), (0.0, 1.0)):
        schedule = AutoSchedule(take_back=take_back)
        schedule.take_part(lambda part: Look(0.0, 0.0, None))
        assert schedule.now.kept == kept
