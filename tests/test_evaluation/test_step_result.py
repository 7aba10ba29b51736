import json
import math

import pytest

from gslora_mm.evaluation import split_scores, step_result

BEFORE = {
    'bbox_mAP': 0.6,
    'per_class/a': 0.5,
    'per_class/b': 0.7,
    'per_class/c': 0.9,
    'per_class/d': math.nan,
}


def test_split_scores_average_the_classes_that_have_one():
    per_class = {'a': 0.5, 'b': 1.0, 'c': None, 'd': math.nan}
    scores = split_scores(
        per_class,
        {
            'forget': ['a', 'b'],
            'retain': ['b', 'c', 'd'],
            'old': ['c', 'd'],
            'missing': [],
            'elsewhere': ['e'],
        },
    )
    assert scores == dict(
        forget=0.75, retain=1.0, old=None, missing=None, elsewhere=None
    )


def test_verification_of_each_split_before_and_now():
    before = {
        **BEFORE,
        'step_02.forget/verification_auc': 0.9,
        'step_01.forget/verification_auc': 0.1,
        'step_02.forget/tar@far=0.01': 0.7,
    }
    now = {
        'per_class/a': 0.0,
        'forget/verification_auc': 0.6,
        'forget/tar@far=0.01': math.nan,
        'retain/verification_auc': 0.8,
        'verification_auc': 0.5,
    }
    splits = dict(forget=['a'], retain=['b', 'c'])
    result = step_result(2, splits, now, before)
    assert result['verification'] == {
        'forget': {
            'verification_auc': dict(before=0.9, now=0.6),
            'tar@far=0.01': dict(before=0.7, now=None),
        },
        'retain': {'verification_auc': dict(before=None, now=0.8)},
    }
    assert 'verification' not in step_result(1, splits, BEFORE, BEFORE)


def test_first_step():
    now = {
        'forget/mAP': 0.1,
        'retain/mAP': 0.8,
        'old/mAP': math.nan,
        'forget/mAP_50': 0.9,
        'per_class/a': 0.1,
        'per_class/b': 0.7,
        'per_class/c': 0.9,
        'per_class/d': math.nan,
    }
    result = step_result(
        1, dict(forget=['a'], retain=['b', 'c', 'd']), now, BEFORE
    )
    assert (result['step'], result['forget'], result['old']) == (1, ['a'], [])
    assert result['retain'] == ['b', 'c', 'd']
    assert result['forget_score'] == 0.1
    assert result['retain_score'] == 0.8
    assert result['old_score'] is result['missing_score'] is None
    assert result['forget_before'] == 0.5
    assert result['retain_before'] == pytest.approx(0.8)
    assert result['old_before'] is None
    drop = 0.5 - 0.1
    assert result['h_mean'] == pytest.approx(2 * 0.8 * drop / (0.8 + drop))
    assert result['h_mean_upper_bound'] == pytest.approx(
        2 * 0.8 * 0.5 / (0.8 + 0.5)
    )
    assert result['per_class'] == dict(a=0.1, b=0.7, c=0.9, d=None)
    json.dumps(result, allow_nan=False)


def test_drop_is_against_the_pretrained_model_not_the_step_before():
    now = {'forget/mAP': 0.0, 'retain/mAP': 0.9, 'old/mAP': 0.02}
    result = step_result(
        2, dict(forget=['b'], retain=['c'], old=['a']), now, BEFORE
    )
    assert result['forget_before'] == 0.7
    assert result['h_mean'] == result['h_mean_upper_bound']
    assert result['old_score'] == 0.02
    assert result['old_before'] == 0.5


def test_own_split_scores_of_the_pretrained_model_come_first():
    before = BEFORE | {
        'step_02.forget/mAP': 0.75,
        'step_02.retain/mAP': None,
        'step_01.old/mAP': 0.1,
    }
    result = step_result(
        2,
        dict(forget=['b'], retain=['c'], old=['a']),
        {'forget/mAP': 0.0, 'retain/mAP': 0.9},
        before,
    )
    assert result['forget_before'] == 0.75
    assert result['retain_before'] is None  # nothing to score, not .9
    assert result['old_before'] == 0.5  # step_01's key is another step's
    assert result['h_mean_upper_bound'] is None
    assert result['h_mean'] == pytest.approx(2 * 0.9 * 0.75 / (0.9 + 0.75))


def test_falls_back_to_the_classes_without_split_metrics():
    now = {'per_class/a': 0.1, 'per_class/b': 0.6, 'per_class/c': 0.8}
    result = step_result(
        1, dict(forget=['a'], retain=['b', 'c'], missing=['c']), now, BEFORE
    )
    assert result['forget_score'] == 0.1
    assert result['retain_score'] == pytest.approx(0.7)
    assert result['missing_score'] == 0.8
    assert result['missing_before'] == 0.9


def test_learned_classes_have_scores_of_their_own():
    splits = dict(forget=['a'], retain=['b'])
    now = {'per_class/a': 0.0, 'per_class/b': 0.7, 'learned/mAP': 0.8}
    without = step_result(1, splits | dict(learned=[]), now, BEFORE)
    assert without == step_result(1, splits, now, BEFORE)
    assert not any('learned' in key for key in without)
    result = step_result(
        2, splits | dict(learned=['c']), now, BEFORE | {'per_class/c': 0.01}
    )
    assert result['learned'] == ['c']
    assert result['learned_score'] == 0.8
    assert result['learned_before'] == 0.01
    assert result['h_mean'] == without['h_mean']


def test_other_metrics_than_map():
    now = {'forget/accuracy': 0.0, 'retain/accuracy': 0.7416}
    before = {'step_01.forget/accuracy': 0.7465, 'per_class/b': 0.7431}
    result = step_result(
        1, dict(forget=['a'], retain=['b']), now, before, 'accuracy'
    )
    assert result['h_mean'] == pytest.approx(0.7440, abs=5e-5)
    assert result['retain_before'] == 0.7431


def test_the_classes_that_a_mean_hides():
    retain = ['van', 'car', 'bus']
    splits = dict(forget=['cat', 'dog'], retain=retain, old=['tie'])
    before = dict(cat=0.9, dog=0.8, van=0.5, car=0.7, bus=0.6, tie=0.5)
    now = dict(cat=0.0, dog=0.055, van=0.45, car=0.6, bus=None, tie=0.0)
    named = [
        {f'per_class/{name}': score for name, score in scores.items()}
        for scores in (now, before)
    ]
    worst = step_result(2, splits, *named)['worst']
    assert worst['forget'] == ['dog', 0.055]
    assert worst['old'] == ['tie', 0.0]
    assert worst['retain'] == ['car', pytest.approx(-0.1)]
    first = dict(splits, old=[])
    assert step_result(1, first, *named)['worst']['old'] is None
