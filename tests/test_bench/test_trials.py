"""Which settings are tried, and which are taken."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

from gslora_mm.bench.trials import (
    Search,
    best_trial,
    data_of,
    first_steps,
    next_trials,
    setting_of,
    settings_name,
)
from gslora_mm.utils import ConfigError
from tests.small_benchmarks import BASE

ROOT = Path(__file__).parents[2]
FACES = ROOT / 'configs/mini/gs-lora_face-transformer_mini-faces_4x20.py'


def walk(searches, budget, judge):
    """All trials, each judged by its settings."""
    tried = []
    for place in range(len(searches) + 1):
        for trial in next_trials(searches, tried.copy(), place, budget):
            h_mean = judge(trial.settings)
            tried.append(replace(trial, h_mean=h_mean))
    return tried


SEARCHES = [Search('a', [1, 3]), Search('b', [10, 30])]


def test_settings_are_searched_one_after_another():
    """The second one where the first is best: a = 3 needs b = 30."""
    best = {'a': 3, 'b': 30}
    trials = walk(
        SEARCHES, 9, lambda s: sum(s.get(k) == v for k, v in best.items())
    )
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5]
    assert [trial.settings for trial in trials] == [
        {},
        {'a': 1},
        {'a': 3},
        {'a': 3, 'b': 10},
        {'a': 3, 'b': 30},
    ]
    assert best_trial(trials).settings == best
    trials = walk(SEARCHES, 9, lambda s: -len(s))
    assert [t.settings for t in trials[3:]] == [{'b': 10}, {'b': 30}]
    assert best_trial(trials).number == 1


@pytest.mark.parametrize('budget', [1, 2, 4])
def test_no_trial_exceeds_the_budget(budget):
    trials = walk(SEARCHES, budget, lambda s: s.get('a', 2))
    assert [trial.number for trial in trials] == [1, 2, 3, 4][:budget]


def test_failed_trials_are_never_the_best():
    trials = walk(SEARCHES, 9, lambda s: None if s.get('a') == 3 else 0.5)
    assert best_trial(trials).number == 1
    assert [t.settings for t in trials[3:]] == [{'b': 10}, {'b': 30}]
    trials = walk(SEARCHES, 9, lambda s: None)
    assert best_trial(trials) is None and len(trials) == 5


def test_settings_are_found_by_their_keys():
    cfg = Config(dict(a=dict(b=[dict(c=3)])))
    assert setting_of(cfg, 'a.b.0.c') == 3
    for key in ('a.x', 'a.b.1', 'a.b.c', 'a.b.0.c.d'):
        with pytest.raises(ConfigError, match=f'{key} is to be searched'):
            setting_of(cfg, key)


def test_sequences_are_cut_after_their_first_steps():
    cfg = Config.fromstring(BASE, '.py')
    cfg.method.beta = [0.1, 0.2, 0.3]
    assert first_steps(cfg, 2) == {
        'forgetting.steps': [['zero', 'one'], ['two', 'three']],
        'method.beta': [0.1, 0.2],
    }
    cfg = Config.fromfile(FACES)
    steps = first_steps(cfg, 1)['forgetting.steps']
    assert [len(names) for names in steps] == [20]
    from gslora_mm.sequence.plan import ForgettingPlan

    classes = data_of(cfg.train_dataloader).metainfo.classes
    plan = ForgettingPlan.from_config(cfg.forgetting.to_dict(), classes)
    assert steps[0] == list(plan.steps[0])
    cfg.forgetting.learn = [[], [], [classes[0]], []]
    plan = ForgettingPlan.from_config(cfg.forgetting.to_dict(), classes)
    assert first_steps(cfg, 1) == {
        'forgetting.steps': [list(plan.steps[0])],
        'forgetting.learn': [[]],
    }


@pytest.mark.parametrize('unknown', ['classes', 'shown'])
def test_steps_that_follow_from_the_data_are_not_cut(unknown):
    cfg = Config.fromfile(FACES)
    if unknown == 'classes':
        data_of(cfg.train_dataloader).pop('metainfo')
    else:
        cfg.forgetting.missing = 'rest'
    with pytest.raises(ConfigError, match='benchmark.tune.steps = 1: which'):
        first_steps(cfg, 1)


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        ({}, 'as_configured'),
        ({'a.lr': 0.003, 'm.mask': 'own'}, 'lr=0.003,mask=own'),
        ({'a.lr': 1e-05}, 'lr=1e-05'),
    ],
)
def test_folders_are_named_by_settings(settings, name):
    keys = ['a.lr', 'm.mask', 'm.beta']
    assert settings_name(settings, keys) == name


def test_settings_that_make_no_name_have_one_of_their_own():
    values = ['../up', [0.1, 0.2], dict(a=1), 'long' * 40]
    names = [settings_name({'m.x': value}, ['m.x']) for value in values]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r'settings_[0-9a-f]{10}', n) for n in names)


def test_no_two_trials_share_a_folder():
    """Two settings may have the same last part and the same values."""
    searches = [
        Search('method.alpha', [0.5, 2.0]),
        Search('adapter.alpha', [0.5, 2.0]),
        Search('method.beta', [0.5]),
    ]
    trials = walk(searches, 9, lambda s: -len(s))
    names = [trial.name for trial in trials]
    assert len(trials) == len(set(names)) == 6
    assert names[0] == 'as_configured' and names[-1] == 'beta=0.5'
    assert names[3] == 'adapter.alpha=0.5'
