"""The probe finds what is in features, and nothing that is not."""

import pytest
import torch

from gslora_mm.audits.ingredients.softmax_regression import (
    LinearProbe,
    held_out_rows,
    split_accuracies,
)
from gslora_mm.utils import ConfigError


def clouds(rows, classes=3, width=8, spread=0.3, seed=0):
    """Gaussian clouds around fixed centres, as many rows of each class."""
    centres = torch.randn(
        classes, width, generator=torch.Generator().manual_seed(7)
    )
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(rows)
    noise = torch.randn(len(labels), width, generator=generator)
    return centres[labels] + spread * noise, labels


def accuracy(probe, features, labels):
    return (probe.predict(features) == labels).double().mean().item()


def test_separates_what_is_separable():
    probe = LinearProbe().fit(*clouds(20))
    assert accuracy(probe, *clouds(20, seed=1)) > 0.98
    assert probe.holdout_accuracy > 0.9


def test_finds_nothing_in_noise():
    features, labels = clouds(60)
    noise = torch.randn(
        features.shape, generator=torch.Generator().manual_seed(3)
    )
    probe = LinearProbe().fit(noise[:120], labels[:120])
    assert accuracy(probe, noise[120:], labels[120:]) < 0.55
    # Held-out rows show that weak penalties only learn the noise by heart.
    assert probe.penalty > 1e-5


def test_is_the_minimum_of_its_loss():
    """The gradient of mean cross-entropy and penalty is zero."""
    features, labels = clouds(30, spread=1.0)
    probe = LinearProbe(penalties=[0.1]).fit(features, labels)
    weights, bias = (
        torch.tensor(each, requires_grad=True)
        for each in (probe.classifier.coef_.T, probe.classifier.intercept_)
    )
    inputs = features.double()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0, correction=0)
    scores = inputs @ weights + bias
    log = scores.log_softmax(1)[torch.arange(len(labels)), labels]
    loss = -log.mean() + 0.05 * weights.square().sum()
    loss.backward()
    assert weights.grad.abs().max() < 1e-5
    assert bias.grad.abs().max() < 1e-5


def test_two_classes_have_the_same_loss():
    """Of which scikit-learn keeps one row of weights, with another norm."""
    features, labels = clouds(40, classes=2, spread=1.5)
    probe = LinearProbe(penalties=[0.1]).fit(features, labels)
    (difference,) = torch.from_numpy(probe.classifier.coef_)
    (offset,) = torch.from_numpy(probe.classifier.intercept_)
    weights = torch.stack([-difference, difference], 1) / 2
    weights.requires_grad_()
    bias = torch.stack([-offset, offset]) / 2
    inputs = features.double()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0, correction=0)
    loss = torch.nn.functional.cross_entropy(inputs @ weights + bias, labels)
    (loss + 0.05 * weights.square().sum()).backward()
    assert weights.grad.abs().max() < 1e-5


def test_class_ids_need_not_be_dense():
    features, labels = clouds(10)
    ids = torch.tensor([4, 9, 70])[labels]
    probe = LinearProbe().fit(features, ids)
    assert accuracy(probe, features, ids) == 1


def test_scale_and_constant_features_do_not_matter():
    features, labels = clouds(20)
    scaled = features * torch.logspace(-6, 6, 8) + 100
    scaled = torch.cat([scaled.double(), torch.ones(len(labels), 1)], 1)
    probe = LinearProbe().fit(scaled, labels)
    assert accuracy(probe, scaled, labels) > 0.98


def test_the_seed_decides_everything():
    features, labels = clouds(10, spread=1.0)
    state = torch.get_rng_state()
    one = LinearProbe(seed=1).fit(features, labels)
    two = LinearProbe(seed=1).fit(features, labels)
    assert (one.classifier.coef_ == two.classifier.coef_).all()
    assert torch.equal(torch.get_rng_state(), state)
    rows = [held_out_rows(labels, 0.2, seed) for seed in (1, 2)]
    assert not torch.equal(*rows)


def test_a_share_of_every_class_is_held_out():
    labels = torch.tensor([0] * 10 + [1] * 3 + [2])
    held_out = held_out_rows(labels, 0.2)
    counts = [int(held_out[labels == label].sum()) for label in range(3)]
    assert counts == [2, 1, 0]


def test_one_row_a_class_is_enough():
    features, labels = clouds(1, spread=0.1)
    probe = LinearProbe().fit(features, labels)
    assert probe.holdout_accuracy is None
    assert accuracy(probe, *clouds(20, spread=0.1)) > 0.9


def test_refuses_what_cannot_be_probed():
    features, labels = clouds(4)
    with pytest.raises(ConfigError, match='at least two classes'):
        LinearProbe().fit(features, torch.zeros_like(labels))
    features[2, 1] = torch.nan
    with pytest.raises(ConfigError, match='1 of 12 feature rows'):
        LinearProbe().fit(features, labels)


def test_accuracies_are_over_rows():
    labels = torch.tensor([0, 0, 0, 1, 2])
    found = torch.tensor([0, 0, 1, 1, 0])
    classes = ['a', 'b', 'c', 'd']
    each = {name: [name] for name in classes}
    assert split_accuracies(labels, found, classes, each) == {
        'a': pytest.approx(2 / 3),
        'b': 1,
        'c': 0,
        'd': None,
    }
    splits = dict(forget=['a', 'c'], old=['d'], retain=['b'])
    assert split_accuracies(labels, found, classes, splits) == dict(
        forget=0.5, old=None, retain=1
    )
