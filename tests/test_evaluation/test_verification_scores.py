"""The figures of face verification, against counting by hand."""

import math

import numpy as np
import pytest

from gslora_mm.evaluation.verification_scores import (
    area_under_curve,
    best_threshold,
    tar_at_far,
    threshold_accuracy,
    verification_scores,
)


def draw(num_same=60, num_different=90, gap=1.0, seed=0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate(
        [rng.normal(gap, 1, num_same), rng.normal(0, 1, num_different)]
    )
    return scores, np.arange(len(scores)) < num_same


def test_area_under_curve_counts_pairs_of_pairs():
    scores, same = draw()
    scores = scores.round(1)  # ties
    wins = np.sign(scores[same][:, None] - scores[~same][None])
    expected = ((wins + 1) / 2).mean()
    assert area_under_curve(scores, same) == pytest.approx(expected)


def test_best_threshold_tries_all():
    scores, same = draw(20, 30)
    scores = scores.round(1)
    best = max(
        ((scores >= t) == same).mean()
        for t in [*(scores - 0.05), scores.max() + 1]
    )
    threshold = best_threshold(scores, same)
    assert ((scores >= threshold) == same).mean() == best
    # all of one kind
    assert best_threshold(scores, np.ones(50, bool)) < scores.min()
    assert best_threshold(scores, np.zeros(50, bool)) > scores.max()


def test_threshold_is_chosen_on_other_pairs():
    # a perfect threshold for each part, but another one than for the rest
    scores = np.array([0.9, 0.1, 0.8, 0.2])
    same = np.array([True, False, True, False])
    assert threshold_accuracy(scores, same) == 1
    # Similarities that say nothing: the best threshold in hindsight does
    # better than chance, one chosen elsewhere does not.
    scores, same = draw(2000, 2000, gap=0.0)
    hindsight = ((scores >= best_threshold(scores, same)) == same).mean()
    assert hindsight > 0.505
    assert threshold_accuracy(scores, same) == pytest.approx(0.5, abs=0.03)
    assert threshold_accuracy(scores, same) < hindsight


def test_the_order_of_the_pairs_does_not_matter():
    scores, same = draw(300, 300)
    order = np.random.default_rng(1).permutation(600)
    assert threshold_accuracy(scores[order], same[order]) == pytest.approx(
        threshold_accuracy(scores, same), abs=0.02
    )


def test_tar_at_far():
    scores = np.array([0.9, 0.7, 0.5, 0.3, 0.8, 0.6, 0.4, 0.2, 0.1])
    same = np.array([True] * 4 + [False] * 5)
    assert tar_at_far(scores, same, 0.0) == 0.25  # above 0.8
    assert math.isnan(tar_at_far(scores, same, 0.19))  # of 5 pairs
    assert tar_at_far(scores, same, 0.2) == 0.5  # above 0.6
    assert tar_at_far(scores, same, 0.6) == 1.0
    scores, same = draw(500, 1000)
    for far in (0.001, 0.01, 0.1):
        accepted = tar_at_far(scores, same, far)
        # the highest share over all thresholds that keep to the rate
        best = max(
            (scores[same] > t).mean()
            for t in scores
            if (scores[~same] > t).mean() <= far
        )
        assert accepted == best


def test_undefined_figures_are_nan():
    scores = np.array([0.1, 0.2, 0.3])
    one = np.array([True, False, False])
    for same in (np.ones(3, bool), np.zeros(3, bool), one):
        figures = verification_scores(scores, same)
        assert math.isnan(figures['verification_accuracy'])
    for same in (np.ones(3, bool), np.zeros(3, bool)):
        assert all(
            math.isnan(value)
            for value in verification_scores(scores, same).values()
        )
    empty = verification_scores(np.zeros(0), np.zeros(0, bool), far=(0.01,))
    assert list(empty) == [
        'verification_accuracy',
        'verification_auc',
        'tar@far=0.01',
    ]
    assert all(map(math.isnan, empty.values()))


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_similarities_that_are_not_finite_are_the_lowest(bad):
    """A damaged model has figures, too: it has been trained for hours."""
    scores, same = draw(60, 1000)
    scores[[3, 70]] = bad
    lowest = np.where(np.isfinite(scores), scores, -100.0)
    found = verification_scores(scores, same)
    assert found == verification_scores(lowest, same)
    none = verification_scores(np.full(1060, bad), same)
    assert none == pytest.approx(
        {
            'verification_accuracy': 1000 / 1060,
            'verification_auc': 0.5,
            'tar@far=0.001': 0.0,
            'tar@far=0.01': 0.0,
        }
    )
