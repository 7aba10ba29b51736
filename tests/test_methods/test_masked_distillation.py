"""Masked distillation: the model as it was, without the classes that go."""

import numpy as np
import pytest
import torch

from gslora_mm.lora import lora_layers
from gslora_mm.methods import DELETE, MaskedDistillation
from gslora_mm.methods.ingredients.weight_drift import trained_weights
from gslora_mm.utils import ConfigError
from tests.processes import on_two_processes
from .helpers import (
    LORA,
    TASKS,
    Half,
    TinyDataset,
    WithoutForget,
    before_and_after,
    losses_of,
    taught,
    tiny_batch,
    tiny_model,
    total,
    train,
)

ACTIVATIONS = ('softmax', 'sigmoid')


class Empty:
    """A half without an image, which must not be looked at."""

    def __len__(self):
        return 0


def by_hand(logits, teacher, margin, activation):
    """Gone and held of class 0 and the other three, in NumPy."""
    z, t = (x.detach().numpy() for x in (logits, teacher))
    gone, held = [], []
    for own, other in zip(z, t, strict=True):
        if activation == 'softmax':
            p = np.exp(own + [margin, 0, 0, 0])
            gone.append(-np.log(1 - p[0] / p.sum()))
            q, t_kept = np.exp(own[1:]), np.exp(other[1:])
            q, t_kept = q / q.sum(), t_kept / t_kept.sum()
            held.append((t_kept * np.log(t_kept / q)).sum())
        else:
            gone.append(np.log(1 + np.exp(own[0] + margin)))
            q, p = 1 / (1 + np.exp(-own[1:])), 1 / (1 + np.exp(-other[1:]))
            kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
            held.append(kl.sum())
    return np.mean(gone), np.mean(held)


@pytest.mark.parametrize('margin', [0.0, 2.0])
@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_losses_against_float64(activation, margin):
    method = MaskedDistillation(beta=0.7, w_hold=0.3, margin=margin)
    teacher = taught(method).logits
    method.groups = {}
    halves = [Half(seed=seed, activation=activation) for seed in (0, 1)]
    for half, role in zip(halves, ('forget', 'retain'), strict=True):
        half.role = role
    found = losses_of(method, *halves)
    for half in halves:
        gone, held = by_hand(half.logits, teacher, margin, activation)
        assert found[f'gone_{half.role}'].item() == pytest.approx(gone)
        assert found[f'held_{half.role}'].item() == pytest.approx(held)
        assert found[f'loss_{half.role}'].item() == pytest.approx(
            0.7 * gone + 0.3 * held
        )


def test_with_equal_weights_it_is_the_loss_of_delete():
    """The chain rule takes DELETE's divergence apart."""
    method, delete = (
        MaskedDistillation(margin=0, w_hold=1),
        DELETE(mask='step'),
    )
    taught(method), taught(delete)
    method.groups = {}
    half = Half(labels=(0, 0, 0))
    half.role = 'forget'
    ours = total(losses_of(method, half, Empty()))
    theirs = losses_of(delete, half, Empty())['loss_forget']
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_no_label_is_looked_at():
    method = MaskedDistillation()
    taught(method)
    method.groups = {}
    found = []
    for labels in ((0, 0, 0), (1, 2, 3)):
        half = Half(labels=labels)
        half.role = 'retain'
        found.append(total(losses_of(method, Empty(), half)).item())
    assert found[0] == found[1]


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_comes_back_to_its_teacher_in_what_is_kept(task, adapter):
    before, after = before_and_after(
        'MaskedDistillation', task, adapter, 'held_retain', 1e-3, beta=0.0
    )
    assert 0 < after < before


@pytest.mark.parametrize('role', ['forget', 'retain', None])
@pytest.mark.parametrize('task', TASKS)
def test_trains_a_real_model_on_either_half_or_both(task, role):
    method = dict(type='gslora_mm.MaskedDistillation')
    model = tiny_model(task, method)
    model.method.prepare(model, TinyDataset(task))
    batch = tiny_batch(task, role=role)
    key = f'gone_{role or "forget"}'
    before = train(model, batch, lr=0)
    assert before[f'held_{role or "forget"}'].abs() < 1e-5
    train(model, batch, 12, lr=0.05)
    after = train(model, batch, lr=0)
    assert after[key] < before[key]
    assert all(value.isfinite() for value in after.values())


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_no_dropout_stands_between_student_and_teacher(task, adapter):
    """But that of the adapter, which is a setting of its own."""
    method = dict(type='gslora_mm.MaskedDistillation')
    model = tiny_model(task, method, adapter)
    for module in model.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    model.train()
    model.method.prepare(model, TinyDataset(task))
    for _ in range(2):
        log = train(model, tiny_batch(task), lr=0)
        for role in ('forget', 'retain'):
            assert log[f'held_{role}'].abs() < 1e-5
    layers = lora_layers(model.model).values()
    assert all(layer.training for layer in layers)
    assert not model.eval().model.training


@pytest.mark.parametrize('task', TASKS)
def test_without_an_image_to_forget_some_are_drawn(task):
    method = dict(
        type='gslora_mm.MaskedDistillation',
        drawn_images=3,
        drawing_iterations=4,
    )
    model = tiny_model(task, method)
    dataset = WithoutForget(task)
    model.method.prepare(model, dataset)
    batch = tiny_batch(task, role='retain')
    before = train(model, batch, lr=0)
    assert {'loss_forget', 'loss_retain'} <= set(before)
    train(model, batch, 12, lr=0.05)
    assert train(model, batch, lr=0)['gone_forget'] < before['gone_forget']
    assert model.training


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(margin=-1.0), 'method.margin = -1.0'),
        (dict(drawn_images=0), 'method.drawn_images = 0'),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        MaskedDistillation(**settings)


def test_a_class_with_no_probability_left_gives_no_nan():
    method = MaskedDistillation(margin=50.0)
    taught(method)
    method.groups = {}
    half = Half()
    half.role = 'forget'
    with torch.no_grad():
        half.logits[:, 0] = 1e4
    loss = total(losses_of(method, half, Empty()))
    loss.backward()
    assert loss.isfinite() and half.logits.grad.isfinite().all()


def trained_by_two(rank):
    """Losses and weights of both kinds of training, by task."""
    found = {}
    for task in TASKS:
        for adapter in (LORA, None):
            method = dict(type='gslora_mm.MaskedDistillation')
            model = tiny_model(task, method, adapter)
            model.method.prepare(model, TinyDataset(task))
            batch = tiny_batch(task, seed=rank)
            log = train(model, batch, 2, lr=1e-3)
            weights = [p.sum() for p in model.parameters() if p.requires_grad]
            key = f'{task} {adapter is None}'
            found[key] = log['loss'].item(), torch.stack(weights).tolist()
    return found


def test_two_processes_train_one_model(tmp_path):
    """Each with images of its own, with an adapter and without."""
    first, second = on_two_processes(trained_by_two, tmp_path)
    assert len(first) == 4
    for key, (loss, weights) in first.items():
        assert loss == pytest.approx(second[key][0], rel=1e-5), key
        assert weights == pytest.approx(second[key][1], rel=1e-5), key


class LaterDataset(TinyDataset):
    """Of a step that forgets class 2, after one that has forgotten 0."""

    labels = dict(forget=[2], retain=[1, 3])


def second_step(task, adapter, **settings):
    """A method in its second step, and the state that it was given."""
    method = dict(type='gslora_mm.MaskedDistillation', **settings)
    first = tiny_model(task, method, adapter)
    first.method.prepare(first, TinyDataset(task))
    state = {k: v.clone() for k, v in first.method.carried_state().items()}
    later = tiny_model(task, method, adapter)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trained_weights(later).values():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    later.method.load_carried_state(state)
    later.method.prepare(later, LaterDataset(task))
    return later, state


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_a_later_step_has_the_first_teacher_and_forgets_no_less(task, adapter):
    later, state = second_step(task, adapter)
    assert later.method.gone.tolist() == [True, False, True, False]
    carried = later.method.carried_state()
    assert carried.keys() == state.keys()
    for key in carried.keys() - {'gone'}:
        assert torch.equal(carried[key], state[key]), key
    # Its own model is another one now.
    held = train(later, tiny_batch(task), lr=0)
    assert min(held['held_forget'], held['held_retain']) > 1e-4


@pytest.mark.parametrize('task', TASKS)
def test_a_teacher_of_the_step_knows_of_no_other(task):
    later, state = second_step(task, LORA, teacher_of='step')
    assert state.keys() == {'gone'}
    assert later.method.gone.tolist() == [False, False, True, False]
    held = train(later, tiny_batch(task), lr=0)
    assert max(held['held_forget'], held['held_retain']) < 1e-5


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('gone'), 'holds weights of'),
        (lambda state: state.popitem(), 'holds weights of . layers, not of .'),
        (
            lambda state: state.update({sorted(state)[1]: torch.zeros(1)}),
            'of another model',
        ),
    ],
)
def test_a_state_of_another_model_is_refused(change, message):
    later, state = second_step('classification', LORA)
    change(state)
    with pytest.raises(ValueError, match=message):
        later.method.load_carried_state(state)
