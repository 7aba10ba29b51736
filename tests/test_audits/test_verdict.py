"""Verdicts, from outcomes made for them."""

import numpy as np
import pytest

from gslora_mm.audits import Localisation, Membership, Similarity
from gslora_mm.audits.outcome import RESAMPLES, Outcome
from gslora_mm.audits.verdict import compare, training_spread


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


def test_one_training_more_may_be_above_the_others():
    figures = [[0.2, 0.3, 0.25], [0.5, 0.44, 0.62]]
    within = [np.var(each, ddof=1) for each in figures]
    expected = 2.776 * np.sqrt(np.mean(within)) * np.sqrt(4 / 3)
    assert training_spread(figures) == pytest.approx(expected, rel=1e-3)
    assert training_spread([[0.2], [0.4]]) == 0
    # Objects alone would tell them apart.
    models = (
        outcome(0.9, spread=0.001),
        outcome(0.34, spread=0.001),
        outcome(0.2, spread=0.001),
        outcome(0.3, spread=0.001),
    )
    found = [
        compare(Localisation(), {}, *models[:2], models[2:], spread)
        for spread in (0.0, 0.05, 0.1)
    ]
    assert [each['resisted'] for each in found] == [False, False, True]
