"""Figures with their bootstrap samples."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from gslora_mm.audits.outcome import (
    RESAMPLES,
    Outcome,
    mean_outcome,
    resampled_auc,
    resampled_counts,
)


def test_counts_follow_from_the_number_alone():
    counts = resampled_counts(7)
    assert counts.shape == (1 + RESAMPLES, 7)
    assert (counts[0] == 1).all()
    assert (counts.sum(1) == 7).all()
    np.testing.assert_array_equal(counts, resampled_counts(7))


def test_mean_over_the_rows_of_each_class():
    values = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    labels = torch.tensor([0, 0, 1, 1, 2])
    found = Outcome.of_rows(values, labels, dict(a=0, b=1, z=3))
    assert found.score == pytest.approx(3 / 4)
    assert found.per_class['a'][0] == 0.5
    assert found.per_class['b'][0] == 1
    assert np.isnan(found.per_class['z']).all()
    # A sample is the mean of what is in it.
    counts = resampled_counts(5)[5, :4]
    assert found.overall[5] == pytest.approx(
        counts @ [1, 0, 1, 1] / counts.sum()
    )
    low, high = found.interval
    assert 0 <= low < 0.75 < high <= 1


def test_classes_without_a_figure_do_not_count():
    scores = dict(
        a=np.full(1 + RESAMPLES, 0.2), b=np.full(1 + RESAMPLES, np.nan)
    )
    assert Outcome.of_classes(scores).score == pytest.approx(0.2)
    assert np.isnan(Outcome.of_classes(dict(b=scores['b'])).score)


def test_area_under_the_curve_with_repeated_rows_and_ties():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 5, 30), rng.random(30) < 0.4
    counts = rng.integers(0, 4, (3, 30))
    found = resampled_auc(scores, positive, counts)
    for area, weights in zip(found, counts, strict=True):
        expected = roc_auc_score(positive, scores, sample_weight=weights)
        assert area == pytest.approx(expected)
    assert np.isnan(resampled_auc(scores, positive, [positive * 1])[0])


def test_mean_over_draws():
    rows = [torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])]
    labels = torch.tensor([0, 1])
    outcomes = [
        Outcome.of_rows(each, labels, dict(a=0, b=1), note=i)
        for i, each in enumerate(rows)
    ]
    found = mean_outcome(outcomes)
    assert found.score == pytest.approx(0.75)
    assert found.per_class['a'][0] == 0.5
    assert found.details == dict(note=0)
