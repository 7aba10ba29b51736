import copy

import numpy as np
import pytest
from mmengine.config import Config

from gslora_mm.entries import (
    ForgettingEntry,
    MethodEntry,
    ScheduleEntry,
    SequenceEntries,
)
from gslora_mm.sequence import ForgettingPlan
from gslora_mm.sequence.resolve import ResolvedSequence, plain_config


def resolved(plan, ratio=None, **forgetting):
    """A sequence of which nothing but the entries is there."""
    schedule = ScheduleEntry(
        max_iters=1, batch_size=4, optim_wrapper={}, forget_ratio=ratio
    )
    entries = SequenceEntries(
        ForgettingEntry(pretrained='a.pth', steps=[], **forgetting),
        schedule,
        MethodEntry(dict(type='gslora_mm.GSLoRA')),
        None,
        {},
    )
    return ResolvedSequence(Config(), entries, plan)


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


def test_numbers_of_numpy_are_dumped_as_numbers(tmp_path):
    cfg = plain_config(
        dict(lr=np.float64(0.1), size=(np.int32(3), 4), mean=[np.ones(2)])
    )
    path = tmp_path / 'config.py'
    path.write_text(cfg.pretty_text)
    expected = dict(lr=0.1, size=(3, 4), mean=[[1.0, 1.0]])
    assert Config.fromfile(path).to_dict() == expected


def test_replay_of_a_step():
    plan = ForgettingPlan(
        ('cat', 'dog', 'car', 'bus'), (('cat',), ('dog',)), ('bus',)
    )
    sequence = resolved(plan, retain_share=0.1, forget_share=0.5, seed=7)
    replay = sequence.replay_settings(2)
    assert replay['forget']['classes'] == ['dog']
    assert replay['forget']['share'] == 0.5
    # Forgotten classes are not retained, missing ones have no replay data.
    assert replay['retain']['classes'] == ['car']
    assert replay['retain']['exclude'] == ['bus']
    assert replay['retain']['share'] == 0.1
    seeds = {
        half['seed']
        for step in (1, 2)
        for half in sequence.replay_settings(step).values()
    }
    assert len(seeds) == 4


def test_other_annotations_may_differ_by_half():
    plan = ForgettingPlan(('cat', 'dog'), (('cat',),))
    kept = dict(retain='keep')
    replay = resolved(plan, other_annotations=kept).replay_settings(1)
    assert replay['forget']['other_annotations'] == 'drop'
    assert replay['retain']['other_annotations'] == 'keep'


def test_a_method_that_paints_objects_over_is_told_where_they_are():
    plan = ForgettingPlan(('cat', 'dog'), (('cat',),))
    sequence = resolved(plan, other_annotations=dict(retain='keep'))
    sequence.entries.method.config['type'] = 'gslora_mm.NoiseAndDistil'
    replay = sequence.replay_settings(1)
    assert replay['forget']['other_annotations'] == 'ignore'
    assert replay['retain']['other_annotations'] == 'keep'


@pytest.mark.parametrize(
    ('method', 'unused'),
    [('FineTune', ['forget']), ('GSLoRA', []), ('DELETE', ['retain'])],
)
def test_what_no_batch_has_is_not_selected(method, unused):
    plan = ForgettingPlan(('cat', 'dog'), (('cat',),))
    sequence = resolved(plan)
    sequence.entries.method.config['type'] = f'gslora_mm.{method}'
    replay = sequence.replay_settings(1)
    found = [role for role, half in replay.items() if not half['is_used']]
    assert found == unused


def test_where_no_image_of_a_class_is_left_no_retained_one_shows_it():
    plan = ForgettingPlan(('cat', 'dog', 'car'), (('cat',), ('dog',)))
    sequence = resolved(plan, forget_share=0, retain_share=0.5)
    sequence.entries.method.config['type'] = 'gslora_mm.MaskedDistillation'
    replay = sequence.replay_settings(1)
    assert not replay['forget']['is_used']
    assert replay['forget']['share'] is None
    assert replay['retain']['exclude'] == ['cat']
    assert replay['retain']['share'] == 0.5
    # Those of the first request are deleted since.
    replay = sequence.replay_settings(2)
    assert sorted(replay['retain']['exclude']) == ['cat', 'dog']


def test_replay_of_what_is_learned():
    """From its step on in the retain set; never seen before."""
    plan = ForgettingPlan(
        ('cat', 'dog', 'car', 'bus', 'bird'),
        (('cat',), ('dog',), ('bird',)),
        ('bus',),
        ((), ('bird',), ()),
    )
    sequence = resolved(plan, retain_share=0.1, forget_share=0.5)
    halves = [sequence.replay_settings(step) for step in (1, 2, 3)]
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
