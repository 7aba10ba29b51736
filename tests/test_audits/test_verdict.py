"""Verdicts, from outcomes made for them."""

import numpy as np
import pytest
from scipy.stats import t

from gslora_mm.audits import (
    Localisation,
    Membership,
    PrototypeAttack,
    Similarity,
)
from gslora_mm.audits.outcome import RESAMPLES, Outcome
from gslora_mm.audits.verdict import Spread, compare, training_spreads


def outcome(score, spread=0.02, seed=0, **classes):
    """A figure with samples around it; a seed shared is luck shared."""
    noise = np.random.default_rng(seed).normal(0, spread, RESAMPLES)

    def samples(value):
        return np.array([value, *(value + noise)])

    return Outcome(samples(score), {k: samples(v) for k, v in classes.items()})


def verdict(attack, pretrained, after, *retrained):
    return compare(attack, dict(score=0.3), pretrained, after, retrained)


@pytest.mark.parametrize(
    ('after', 'resisted'), [(0.2, True), (0.31, True), (0.5, False)]
)
def test_no_more_than_the_model_in_which_most_is_found(after, resisted):
    found = verdict(
        Localisation(),
        outcome(0.9, seed=1),
        outcome(after, seed=2),
        outcome(0.2, seed=3),
        outcome(0.3, seed=4),
    )
    assert found['separates'] is True
    assert found['resisted'] is resisted
    assert found['after'] == after
    assert found['retrained'] == [0.2, 0.3]
    low, high = found['after_interval']
    assert low < after < high


def test_an_attack_that_does_not_separate_says_nothing():
    found = verdict(
        Localisation(), outcome(0.32), outcome(0.9, seed=1), outcome(0.3)
    )
    # On the same samples, what is above in one is above in all.
    assert found['separates'] is True
    found = verdict(
        Localisation(),
        outcome(0.32, seed=2),
        outcome(0.9),
        outcome(0.3, seed=3),
    )
    assert found['separates'] is False
    assert found['resisted'] is None


def test_without_a_control_there_is_no_verdict():
    found = verdict(Localisation(), outcome(0.9), outcome(0.1))
    assert found['separates'] is None and found['resisted'] is None
    assert found['worst'] is None


def test_an_attack_that_informs_decides_nothing():
    found = verdict(Similarity(), outcome(1.0), outcome(0.9), outcome(0.1))
    assert found['resisted'] is None and not found['decides']


@pytest.mark.parametrize(('after', 'resisted'), [(0.5, True), (0.1, False)])
def test_a_membership_far_below_chance_is_a_leak(after, resisted):
    found = verdict(
        Membership(),
        outcome(0.8, seed=1),
        outcome(after, seed=2),
        outcome(0.52, seed=3),
    )
    assert found['resisted'] is resisted


def test_names_the_class_with_most_above_its_reference():
    found = verdict(
        Localisation(),
        outcome(0.9, a=0.9, b=0.9, z=0.9),
        outcome(0.4, a=0.6, b=0.5, z=np.nan),
        outcome(0.4, seed=1, a=0.55, b=0.1, z=0.1),
    )
    assert found['worst']['name'] == 'b'
    assert found['worst']['after'] == 0.5
    assert found['worst']['retrained'] == [0.1]
    assert found['worst']['resisted'] is False
    assert found['per_class']['z'] is None


def shares(angles):
    return np.sin(np.asarray(angles) / 2) ** 2


def retrained_models(angles):
    """Outcomes of models, from angles by model, setting and class."""
    return [
        [
            Outcome(
                shares([setting.mean()]),
                {f'class_{k}': shares([v]) for k, v in enumerate(setting)},
            )
            for setting in model
        ]
        for model in np.asarray(angles, float)
    ]


def test_settings_that_go_up_and_down_together_count_as_one():
    rng = np.random.default_rng(0)
    classes = rng.normal(1, 0.1, (3, 1, 400))
    attack = PrototypeAttack()

    def spread(angles):
        return training_spreads([(attack, retrained_models(angles))])[
            attack.name
        ]

    one = spread(classes)
    assert spread(np.repeat(classes, 4, axis=1)).overall == pytest.approx(
        one.overall
    )
    s = np.std(classes.mean((1, 2)), ddof=1)
    assert one.overall == pytest.approx(
        t.ppf(0.95, 2) * s * np.sqrt(4 / 3), rel=1e-3
    )
    # Of a class, s is larger, and the worst of all of them is asked for.
    s = np.sqrt(classes.var(0, ddof=1).mean())
    assert one.of_class == pytest.approx(
        t.ppf(1 - 0.05 / 400, 2) * s * np.sqrt(4 / 3), rel=1e-3
    )
    # Four independent settings: the highest of four, but s is known better.
    several = rng.normal(1, 0.1, (3, 4, 400))
    s = np.sqrt(several.mean(2).var(0, ddof=1).mean())
    assert spread(several).overall == pytest.approx(
        t.ppf(1 - 0.05 / 4, 8) * s * np.sqrt(4 / 3), rel=0.02
    )


def test_two_models_alike_by_luck_in_one_attack_are_not_so_in_all():
    rng = np.random.default_rng(0)
    alike = np.ones((2, 1, 8)) + [[[0]], [[1e-3]]]
    other = rng.normal(1, 0.2, (2, 6, 8))
    lonely, usual = Localisation(), PrototypeAttack()
    found = training_spreads([(lonely, retrained_models(alike))])
    assert found['localisation'].overall < 0.01
    found = training_spreads(
        [
            (lonely, retrained_models(alike)),
            (usual, retrained_models(other)),
            (Membership(), retrained_models(alike)),
            (Similarity(), retrained_models(other)),
        ]
    )
    assert found['localisation'].overall > 0.05
    # Areas under a curve are another kind, and what informs has no verdict.
    assert found['membership'].overall < 0.01
    assert set(found) == {'localisation', 'prototype', 'membership'}


def test_a_single_model_says_nothing_of_one_training_more():
    models = retrained_models(np.ones((1, 2, 3)))
    assert training_spreads([(Localisation(), models)]) == {}
    assert training_spreads([(Localisation(), [])]) == {}
    same = retrained_models(np.ones((2, 2, 3)))
    assert training_spreads([(Localisation(), same)]) == {}


@pytest.mark.parametrize('number', [2, 3])
def test_one_in_twenty_retrained_models_fails(number):
    """Of settings that are alike in part, and scores near 0 and not."""
    rng = np.random.default_rng(number)
    attack, failed, trials = PrototypeAttack(), 0, 100
    level = np.linspace(0.1, 2, 12)[:, None]
    for _ in range(trials):
        common = rng.normal(0, 0.15, (number + 1, 1, 5))
        own = rng.normal(0, 0.15, (number + 1, 12, 5))
        angles = np.abs(level + common + own)
        *references, candidate = retrained_models(angles)
        spread = training_spreads([(attack, references)])[attack.name]
        # The objects would tell all of them apart.
        failed += any(
            not compare(
                attack,
                {},
                outcome(1, spread=1e-6),
                outcome(own.score, spread=1e-6),
                [outcome(each[at].score, spread=1e-6) for each in references],
                spread,
            )['resisted']
            for at, own in enumerate(candidate)
        )
    assert 0.01 < failed / trials < 0.09


def test_what_is_allowed_is_told():
    models = (
        outcome(0.9, spread=0.001),
        outcome(0.34, spread=0.001),
        outcome(0.2, spread=0.001),
        outcome(0.3, spread=0.001),
    )
    found = [
        compare(Localisation(), {}, *models[:2], models[2:], Spread(spread))
        for spread in (0.0, 0.1, 0.3, 2)
    ]
    assert [each['resisted'] for each in found] == [False, False, True, None]
    # One training more might score as high as the pre-trained model.
    assert found[3]['separates'] is False and found[3]['allowed'] > 0.9
    assert found[0]['allowed'] == pytest.approx(0.3)
    angles = 2 * np.arcsin(np.sqrt([0.2, 0.3]))
    assert found[2]['allowed'] == pytest.approx(
        np.sin((angles.mean() + 0.3) / 2) ** 2
    )
