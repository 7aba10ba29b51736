import copy

import pytest
from mmengine.config import Config

from gslora_mm.sequence import ForgettingPlan
from gslora_mm.sequence.resolve import (
    FORGETTING_DEFAULTS,
    SCHEDULE_DEFAULTS,
    complete_schedule,
    for_step,
    forget_ratio,
    method_for_step,
    plain_config,
    replay_for_step,
    schedulers,
    with_defaults,
)
from gslora_mm.utils import ConfigError


def test_plain_text_is_made_without_yapf_and_reads_the_same(
    tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise AssertionError('formatted')

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', refuse)
    entries = dict(
        model=dict(type='A', depth=3, size=(1, 2)),
        names=[f'class {number}' for number in range(40)],
        search={'a.b': [None, 1e-3]},
    )
    cfg = copy.deepcopy(plain_config(entries))
    path = tmp_path / 'config.py'
    path.write_text(cfg.pretty_text)
    assert Config.fromfile(path).to_dict() == entries


def test_one_value_or_one_a_step():
    assert for_step(0.3, 2, 3, 'x') == 0.3
    assert for_step([0.1, 0.2, 0.3], 2, 3, 'x') == 0.2
    with pytest.raises(ConfigError, match='method.beta.* 2 entries for 3'):
        for_step([0.1, 0.2], 1, 3, 'method.beta')


def test_method_of_a_step():
    method = dict(type='gslora_mm.GSLoRA', beta=[0.1, 0.2], bound=5.0)
    assert method_for_step(method, 2, 2) == dict(
        type='gslora_mm.GSLoRA', beta=0.2, bound=5.0
    )
    with pytest.raises(ConfigError, match="unknown name 'GSLora'.*'GSLoRA'"):
        method_for_step(dict(type='gslora_mm.GSLora'), 1, 1)


@pytest.mark.parametrize(
    'method, ratio',
    [('GSLoRA', 0.5), ('FineTune', 0.0), ('GradientAscent', 1.0)],
)
def test_a_batch_holds_what_the_method_needs(method, ratio):
    method = dict(type=f'gslora_mm.{method}')
    assert forget_ratio(SCHEDULE_DEFAULTS, method) == ratio
    wanted = dict(SCHEDULE_DEFAULTS, forget_ratio=0.25)
    assert forget_ratio(wanted, method) == 0.25


@pytest.mark.parametrize(
    'method, ratio, role',
    [
        ('GSLoRA', 0, 'forget'),
        ('GSLoRA', 1.0, 'retain'),
        ('FineTune', 1, 'retain'),
    ],
)
def test_a_batch_without_what_the_method_needs(method, ratio, role):
    schedule = dict(SCHEDULE_DEFAULTS, forget_ratio=ratio)
    with pytest.raises(ConfigError, match=f'forget_ratio = .*needs {role}'):
        forget_ratio(schedule, dict(type=f'gslora_mm.{method}'))


def test_replay_of_a_step():
    plan = ForgettingPlan(
        ('cat', 'dog', 'car', 'bus'), (('cat',), ('dog',)), ('bus',)
    )
    forgetting = dict(
        retain_share=0.1,
        forget_share=0.5,
        shots=None,
        sampling='balanced',
        other_annotations='drop',
        seed=7,
    )
    replay = replay_for_step(forgetting, plan, 2)
    assert replay['forget']['classes'] == ['dog']
    assert replay['forget']['share'] == 0.5
    # Forgotten classes are not retained, missing ones have no replay data.
    assert replay['retain']['classes'] == ['car']
    assert replay['retain']['exclude'] == ['bus']
    assert replay['retain']['share'] == 0.1
    seeds = {
        half['seed']
        for step in (1, 2)
        for half in replay_for_step(forgetting, plan, step).values()
    }
    assert len(seeds) == 4


@pytest.mark.parametrize(
    ('ratio', 'unused'), [(0, ['forget']), (0.25, []), (1, ['retain'])]
)
def test_what_no_batch_has_is_not_selected(ratio, unused):
    plan = ForgettingPlan(('cat', 'dog'), (('cat',),))
    replay = replay_for_step(dict(FORGETTING_DEFAULTS), plan, 1, ratio)
    found = [role for role, half in replay.items() if not half['is_used']]
    assert found == unused


def test_a_cycle_may_rise_before_it_falls():
    schedule = dict(
        batch_size=2,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=[
            dict(type='CosineAnnealingLR', eta_min=0.1, end=5),
            dict(type='CosineAnnealingLR', eta_min=1e-4, begin=5),
            dict(type='CosineAnnealingMomentum', eta_min=0.85),
        ],
    )
    assert complete_schedule(schedule)['batch_size'] == 2
    schedule['param_scheduler'].reverse()
    with pytest.raises(ConfigError, match='eta_min = 0.1 is above'):
        complete_schedule(schedule)


def test_replay_of_what_is_learned():
    """From its step on in the retain set; never seen before."""
    plan = ForgettingPlan(
        ('cat', 'dog', 'car', 'bus', 'bird'),
        (('cat',), ('dog',), ('bird',)),
        ('bus',),
        ((), ('bird',), ()),
    )
    forgetting = dict(FORGETTING_DEFAULTS, retain_share=0.1, forget_share=0.5)
    halves = [replay_for_step(forgetting, plan, step) for step in (1, 2, 3)]
    assert [half['retain']['classes'] for half in halves] == [
        ['dog', 'car'],
        ['car', 'bird'],
        ['car'],
    ]
    for role in ('forget', 'retain'):
        assert [half[role]['exclude'] for half in halves] == [
            ['bus', 'bird'],
            ['bus'],
            ['bus'],
        ]
    assert halves[2]['forget']['classes'] == ['bird']


def test_unknown_and_missing_entries_are_named():
    with pytest.raises(ConfigError, match='schedule.iters is not an entry'):
        with_defaults(dict(iters=3), dict(max_iters=1), {}, 'schedule')
    with pytest.raises(ConfigError, match='forgetting.steps is missing: who'):
        with_defaults({}, {}, dict(steps='who'), 'forgetting')


def test_schedulers_count_the_iterations_of_the_step():
    made = schedulers(
        [
            dict(type='LinearLR', end=10),
            dict(type='CosineAnnealingLR', begin=10, eta_min=1e-5),
        ],
        300,
    )
    assert [config['by_epoch'] for config in made] == [False, False]
    assert made[0]['end'] == 10
    assert made[1]['end'] == 300
    assert made[1]['T_max'] == 290
    assert schedulers(None, 300) == []
    with pytest.raises(ConfigError, match='by_epoch=True'):
        schedulers(dict(type='LinearLR', by_epoch=True), 300)
