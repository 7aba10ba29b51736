import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.evaluation import ForgettingAccuracy, step_result
from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError

CLASSES = ('cat', 'dog', 'car', 'bus', 'tie', 'cup')
SPLITS = dict(forget=['cat'], retain=['dog', 'car', 'cup'], old=['tie'])


def samples_of(scores, labels):
    from mmpretrain.structures import DataSample

    return [
        DataSample().set_pred_score(score).set_gt_label(int(label))
        for score, label in zip(scores, labels, strict=True)
    ]


def evaluate(scores, labels, metric, batch_size=3, classes=CLASSES):
    """Through MMEngine's evaluator, in batches as a loop gives them."""
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dict(classes=classes)
    samples = samples_of(scores, labels)
    for start in range(0, len(samples), batch_size):
        evaluator.process(samples[start : start + batch_size])
    return evaluator.evaluate(len(samples))


def one_hot_ranking(*order):
    """Scores that rank the classes so."""
    scores = torch.zeros(len(CLASSES))
    for place, label in enumerate(order):
        scores[label] = 0.5**place
    return scores


def test_by_hand():
    labels = [0, 0, 1, 2, 2, 2, 4]
    scores = torch.stack(
        [
            one_hot_ranking(0, 1, 2),  # cat: right
            one_hot_ranking(1, 0, 2),  # cat: second
            one_hot_ranking(1, 2, 0),  # dog: right
            one_hot_ranking(2, 0, 1),  # car: right
            one_hot_ranking(0, 2, 1),  # car: second
            one_hot_ranking(0, 1, 3),  # car: nowhere
            one_hot_ranking(0, 1, 2),  # tie: nowhere
        ]
    )
    found = evaluate(scores, labels, ForgettingAccuracy(SPLITS, topk=2))
    found = {k.removeprefix('accuracy/'): v for k, v in found.items()}
    expected = {
        'top1': 3 / 7,
        'top2': 5 / 7,
        'forget/top1': 1 / 2,
        'forget/top2': 1.0,
        # Over images: the mean over classes would be 2/3.
        'retain/top1': 2 / 4,
        'retain/top2': 3 / 4,
        'old/top1': 0.0,
        'old/top2': 0.0,
        'per_class/cat': 1 / 2,
        'per_class/dog': 1.0,
        'per_class/car': 1 / 3,
        'per_class/bus': math.nan,
        'per_class/tie': 0.0,
        'per_class/cup': math.nan,
    }
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize('scale', [1, 64])
def test_each_split_is_as_mmpretrain_has_it(scale):
    """At a scale of 64 most scores of a softmax are exactly 0."""
    from mmpretrain.evaluation import Accuracy

    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.rand(200, 6, generator=generator) - 1
    scores = (scale * logits).softmax(1)
    labels = torch.randint(6, (200,), generator=generator)
    found = evaluate(scores, labels, ForgettingAccuracy(SPLITS), 7)
    splits = {'': CLASSES, **{f'{k}/': v for k, v in SPLITS.items()}}
    for prefix, names in splits.items():
        ids = torch.tensor([CLASSES.index(name) for name in names])
        shown = torch.isin(labels, ids)
        expected = evaluate(
            scores[shown], labels[shown], Accuracy(topk=(1, 5)), 7
        )
        for k in (1, 5):
            assert found[f'accuracy/{prefix}top{k}'] == pytest.approx(
                expected[f'accuracy/top{k}'] / 100
            )


def test_scores_of_zero_are_no_predictions():
    scores = torch.tensor([[1.0, 0, 0, 0, 0, 0]] * 6)
    found = evaluate(scores, range(6), ForgettingAccuracy(SPLITS))
    assert found['accuracy/top1'] == found['accuracy/top5'] == 1 / 6


def test_nothing_is_learned_from_nan():
    scores = torch.full((2, 6), math.nan)
    found = evaluate(scores, [0, 1], ForgettingAccuracy(SPLITS))
    assert found['accuracy/top1'] == found['accuracy/top5'] == 0


def test_a_step_is_scored_by_images():
    """As it is read: the mean over classes would be 0.75 before."""
    before = evaluate(
        torch.eye(6)[[0, 1, 1, 2]],
        [0, 1, 1, 1],
        ForgettingAccuracy({'step_01.retain': ['cat', 'dog']}, topk=1),
    )
    now = evaluate(
        torch.eye(6)[[0, 1, 2, 2]],
        [0, 1, 1, 1],
        ForgettingAccuracy(dict(retain=['cat', 'dog']), topk=1),
    )
    before, now = (
        {k.removeprefix('accuracy/'): v for k, v in metrics.items()}
        for metrics in (before, now)
    )
    result = step_result(1, dict(retain=['cat', 'dog']), now, before, 'top1')
    assert result['retain_before'] == 0.75 and result['retain_score'] == 0.5
    assert result['per_class']['cat'] == 1.0
    assert result['per_class']['bus'] is None
    assert result['forget_score'] is None


def test_is_registered():
    metric = METRICS.build(
        dict(type='gslora_mm.ForgettingAccuracy', splits=SPLITS, topk=[5])
    )
    assert metric.topk == [1, 5]


CASES = {
    'unknown class': (
        dict(splits=dict(forget=['cta'])),
        "splits.forget.*'cta'.*'cat'",
    ),
    'class twice': (dict(splits=dict(forget=['cat', 'cat'])), 'splits.forget'),
    'a name': (dict(splits=dict(forget='cat')), 'splits.forget'),
    'zero': (dict(splits={}, topk=0), r'topk = 0.*>= 1'),
    'not a number': (dict(splits={}, topk=(1, 'all')), 'topk'),
    'too many': (dict(splits={}, topk=(1, 7)), r'topk = \(1, 7\).*6 classes'),
}


@pytest.mark.parametrize('name', CASES)
def test_bad_settings_are_named(name):
    settings, message = CASES[name]
    with pytest.raises(ConfigError, match=f'val_evaluator.{message}'):
        metric = ForgettingAccuracy(**settings)
        metric.dataset_meta = dict(classes=CLASSES)


def test_a_thousand_classes_in_no_time():
    classes = [f'class {i}' for i in range(1000)]
    labels = np.repeat(np.arange(1000), 5)
    scores = torch.eye(1000)[labels]
    splits = {f'step_0{i}.retain': classes[i:] for i in range(4)}
    found = evaluate(scores, labels, ForgettingAccuracy(splits), 500, classes)
    assert found['accuracy/top5'] == 1 and len(found) == 2 + 2 * 4 + 1000


def test_scores_of_repeated_images():
    labels = [0, 0, 1]
    scores = torch.stack(
        [one_hot_ranking(0), one_hot_ranking(1), one_hot_ranking(1)]
    )
    metric = ForgettingAccuracy(SPLITS, topk=1)
    metric.dataset_meta = dict(classes=CLASSES)
    samples = [sample.to_dict() for sample in samples_of(scores, labels)]
    metric.process({}, samples)
    counts = np.array([[1, 1, 1], [3, 1, 0], [0, 0, 2]])
    found = metric.resampled_scores(counts, CLASSES[:2])
    np.testing.assert_allclose(found[CLASSES[0]], [0.5, 0.75, np.nan])
    np.testing.assert_allclose(found[CLASSES[1]], [1, np.nan, 1])
