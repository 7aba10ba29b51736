"""DELETE: towards the teacher with the class itself ruled out."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gslora_mm.methods import DELETE
from gslora_mm.utils import ConfigError
from .helpers import (
    LORA,
    TASKS,
    FakeModel,
    Fixed,
    Half,
    TinyDataset,
    Unread,
    losses_of,
    tiny_batch,
    tiny_model,
    total,
    train,
)

ACTIVATIONS = ('softmax', 'sigmoid')


def set_up(teacher=None, **settings):
    """A method whose teacher always gives these logits."""
    method = DELETE(**settings)
    if teacher is None:
        generator = torch.Generator().manual_seed(5)
        teacher = torch.randn(3, 4, generator=generator, dtype=torch.double)
    model = FakeModel(Fixed(None, teacher), groups=dict(a=[]))
    method.setup(model)
    # The step forgets classes 0 and 1.
    forget = SimpleNamespace(labels=np.array([0, 1]))
    metainfo = dict(classes='abcd')
    method.prepare(
        model, SimpleNamespace(datasets=[forget], metainfo=metainfo)
    )
    return method, teacher


def by_hand(logits, teacher, masked, activation):
    """Row by row, class by class, in NumPy."""
    z, t = (x.detach().numpy() for x in (logits, teacher))
    rows = []
    for i, gone in enumerate(masked):
        kept = [k for k in range(z.shape[1]) if k not in gone]
        if activation == 'softmax':
            p = np.exp(t[i, kept]) / np.exp(t[i, kept]).sum()
            q = np.exp(z[i, kept]) / np.exp(z[i]).sum()
            rows.append((p * np.log(p / q)).sum())
        else:
            p, q = 1 / (1 + np.exp(-t[i])), 1 / (1 + np.exp(-z[i]))
            kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
            rows.append(kl[kept].sum() - np.log(1 - q[list(gone)]).sum())
    return np.mean(rows)


@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize(
    ('mask', 'masked'),
    [('own', [{0}, {1}, {0}]), ('step', [{0, 1}] * 3)],
)
def test_loss_against_float64(activation, mask, masked):
    method, teacher = set_up(mask=mask, w_rest=0.5)
    forget = Half(3.0, 0.7, activation=activation)
    losses = losses_of(method, forget, Unread())
    expected = by_hand(forget.logits, teacher, masked, activation)
    assert losses['loss_forget'].item() == pytest.approx(expected, rel=1e-6)
    assert total(losses).item() == pytest.approx(expected + 0.35, rel=1e-6)


def descend(method, forget, steps=3000, lr=1.0):
    for _ in range(steps):
        losses_of(method, forget, Unread())['loss_forget'].backward()
        with torch.no_grad():
            forget.logits -= lr * forget.logits.grad
            forget.logits.grad = None
    return forget.logits.detach()


def test_own_class_goes_and_the_others_keep_their_proportions():
    method, teacher = set_up()
    forget = Half(labels=(0, 1, 0))
    p = descend(method, forget).softmax(1)
    t = teacher.softmax(1)
    for row, own in enumerate((0, 1, 0)):
        others = [k for k in range(4) if k != own]
        assert p[row, own] < 0.01
        found, expected = p[row, others], t[row, others]
        torch.testing.assert_close(
            found / found.sum(), expected / expected.sum(), atol=1e-3, rtol=0
        )


def test_an_object_turns_into_background():
    """With a sigmoid the others keep their probabilities."""
    method, teacher = set_up()
    forget = Half(labels=(0, 1, 0), activation='sigmoid')
    p = descend(method, forget).sigmoid()
    expected = teacher.sigmoid()
    expected[[0, 1, 2], [0, 1, 0]] = 0
    torch.testing.assert_close(p, expected, atol=0.01, rtol=0)


def test_no_class_of_the_step_inherits_from_another():
    certain = torch.tensor([[9.0, 8.0, 0.0, 0.0]], dtype=torch.double)
    for mask, heir in (('own', 1), ('step', 2)):
        method, _ = set_up(certain, mask=mask)
        target = method.target(Half(labels=(0,))).softmax(1)
        assert target[0, 0] == 0
        assert (target[0, 1] > 0.99) == (heir == 1)


@pytest.mark.parametrize('mask', ['own', 'step'])
def test_an_object_of_a_softmax_detector_turns_into_background(mask):
    """The background, behind the classes, is never ruled out."""
    seen = torch.tensor([[9.0, 2.0, 1.0, 0.0, 5.0]], dtype=torch.double)
    method, _ = set_up(seen, mask=mask)
    forget = Half(labels=(0,), num_classes=5)
    assert descend(method, forget).argmax(1) == 4


@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize('mask', ['own', 'step'])
def test_no_rows_are_no_loss(activation, mask):
    method, _ = set_up(torch.zeros(0, 4, dtype=torch.double), mask=mask)
    forget = Half(labels=(), activation=activation)
    loss = losses_of(method, forget, Unread())['loss_forget']
    assert loss == 0 and loss.requires_grad


def test_a_classifier_has_no_other_losses():
    method, _ = set_up()
    forget = Half()
    forget.loss_rest = 0
    assert set(losses_of(method, forget, Unread())) == {'loss_forget'}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(mask='all'), r"method.mask = 'all'.*\('own', 'step'\)"),
        (dict(w_rest=-1.0), 'method.w_rest = -1.0'),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        DELETE(**settings)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_trains_a_real_model_on_forget_images_alone(task, adapter):
    model = tiny_model(task, dict(type='gslora_mm.DELETE'), adapter)
    model.method.prepare(model, TinyDataset(task))
    batch = tiny_batch(task, role='forget')

    def scores():
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        features = model._extract(data['inputs'])
        half = model.task.half(
            model.model,
            data['inputs'],
            features,
            data['data_samples'],
            torch.arange(len(data['data_samples'])),
            'forget',
        )
        own = half.logits.gather(1, half.labels[:, None])
        return model.method.target(half), own.mean().item()

    before, own_before = scores()
    log = train(model, batch, 12, lr=0.05)
    after, own_after = scores()
    assert all(value.isfinite() for value in log.values())
    assert own_after < own_before
    if task == 'classification':  # a detector matches anew
        torch.testing.assert_close(after, before)  # the teacher has not moved
