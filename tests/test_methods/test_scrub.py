import pytest
import torch
from mmengine.optim import OptimWrapper

from gslora_mm.methods import SCRUB
from gslora_mm.utils import ConfigError
from tests.test_methods.helpers import (
    LORA,
    TASKS,
    Half,
    TinyDataset,
    Unread,
    losses_of,
    moved,
    taught,
    tiny_batch,
    tiny_model,
    total,
    train,
)
from tests.test_methods.test_lwf import KEPT, kl64

MIN = 10_000  # an iteration after all maximisation


def phases(method, count):
    return [method.phase_at(iteration) for iteration in range(count)]


def test_the_schedule():
    """Six retain images an epoch are four forget images an epoch."""
    method = SCRUB(msteps=2)
    taught(method)  # with 2 forget and 3 retain images
    method.iterations_per_epoch = 6
    expected = [
        *[(0, 'max')] * 4, *[(0, 'min')] * 6,
        *[(1, 'max')] * 4, *[(1, 'min')] * 6,
        *[(2, 'min')] * 6,
        *[(3, 'min')] * 6,
    ]  # fmt: skip
    assert phases(method, len(expected)) == expected


def test_part_of_an_iteration_is_one():
    """As for the retain images: the last batch of a pass counts."""
    method = SCRUB(msteps=1)
    taught(method)
    method.iterations_per_epoch = 1
    assert phases(method, 4) == [
        (0, 'max'),
        (0, 'min'),
        (1, 'min'),
        (2, 'min'),
    ]
    method.iterations_per_epoch = 2
    assert [phase for _, phase in phases(method, 5)] == [
        'max', 'max', 'min', 'min', 'min',
    ]  # fmt: skip


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('temperature', [2.0, 0.5])
def test_loss_against_float64(temperature, activation):
    method = SCRUB(alpha=0.3, gamma=0.7, temperature=temperature)
    seen = taught(method)
    half = Half(0.6, 0.1, activation=activation)
    loss = total(losses_of(method, half, Unread()))
    # On the forget half, all classes count.
    kl = kl64(half.logits, seen.logits, temperature, activation, range(4))
    assert loss.item() == pytest.approx(-(temperature**2) * kl, rel=1e-6)
    method.iteration = MIN
    loss = total(losses_of(method, Unread(), half))
    kl = kl64(half.logits, seen.logits, temperature, activation)
    expected = 0.7 * (0.6 + 0.1) + 0.3 * temperature**2 * kl
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def divergence(method, half):
    """Of the classes that are kept."""
    logits = method.teacher.kept_logits(half)
    return method.divergence(*logits, half.activation).item()


def test_away_from_the_teacher_and_back():
    method = SCRUB(gamma=0.0)
    taught(method)
    half = Half()
    for iteration, sign in ((0, 1), (MIN, -1)):
        method.iteration = iteration
        half.logits = half.logits.detach().requires_grad_()
        before = divergence(method, half)
        total(losses_of(method, half, half)).backward()
        half.logits = half.logits - 0.05 * half.logits.grad
        after = divergence(method, half)
        assert sign * (after - before) > 1e-3


def test_zero_at_the_teacher():
    method = SCRUB(gamma=0.0)
    seen = taught(method)
    half = Half()
    for iteration in (0, MIN):
        method.iteration = iteration
        half.logits = seen.logits.clone().requires_grad_()
        loss = total(losses_of(method, half, half))
        loss.backward()
        assert loss == 0
        torch.testing.assert_close(
            half.logits.grad, torch.zeros_like(half.logits)
        )


def test_retain_images_say_nothing_of_the_classes_to_forget():
    method = SCRUB()
    taught(method)
    method.iteration = MIN
    retain = Half()
    total(losses_of(method, Unread(), retain)).backward()
    assert not retain.logits.grad[:, 0].any()
    assert retain.logits.grad[:, KEPT].all()
    method.iteration = 0
    forget = Half()
    total(losses_of(method, forget, Unread())).backward()
    assert forget.logits.grad.all()
    assert forget.loss_cls.grad is None


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_without_rows(activation):
    method = SCRUB()
    taught(method, rows=0)
    for iteration, expected in ((0, 0.0), (MIN, 0.7)):
        method.iteration = iteration
        half = Half(0.6, 0.1, labels=(), activation=activation)
        loss = total(losses_of(method, half, half))
        loss.backward()
        assert loss.item() == pytest.approx(expected)
        assert half.logits.grad.shape == (0, 4)


@pytest.mark.parametrize('iteration', [0, MIN])
def test_both_main_terms_are_always_there(iteration):
    """A log repeats what it was told last of a term."""
    method = SCRUB()
    taught(method)
    method.iteration = iteration
    losses = losses_of(method, Half(), Half())
    assert {'loss_forget', 'loss_retain'} <= set(losses)


@pytest.mark.parametrize(('max_iters', 'warnings'), [(18, 1), (19, 0)])
def test_a_step_that_ends_in_maximisation_is_warned_of(
    max_iters, warnings, monkeypatch
):
    said = []
    monkeypatch.setattr(
        'gslora_mm.methods.scrub.print_log', lambda text, *_: said.append(text)
    )
    method = SCRUB(msteps=2)
    taught(method)
    method.iterations_per_epoch, method.max_iters = 6, max_iters
    method.num_forget, method.num_retain = 10, 20  # 3 and 6 iterations
    assert method.phase_at(17) == (1, 'min') and method.phase_at(18)[0] == 2
    losses_of(method, Half(), Half())
    method.iteration = 1
    losses_of(method, Half(), Half())
    assert len(said) == warnings


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_max_steps_raise_the_divergence_of_a_model(task, adapter):
    model = tiny_model(task, dict(type='gslora_mm.SCRUB'), adapter)
    method, batch = model.method, tiny_batch(task)
    method.prepare(model, TinyDataset(task))
    moved(model)
    method.iterations_per_epoch = 6  # so that all of these are max steps
    before = train(model, batch, lr=0)
    assert before['loss_retain'] == 0
    train(model, batch, 4, lr=1e-2)
    after = train(model, batch, lr=0)
    assert after['loss_forget'] < before['loss_forget'] < 0


@pytest.mark.parametrize('task', TASKS)
def test_min_steps_train_towards_the_teacher(task):
    config = dict(type='gslora_mm.SCRUB', alpha=1e3, msteps=1)
    model = tiny_model(task, config)
    method, batch = model.method, tiny_batch(task)
    method.prepare(model, TinyDataset(task))
    moved(model)
    losses = []
    for lr in (0.0, 1e-5, 1e-5, 1e-5, 0.0):
        # Two iterations each: the second of them is a min step.
        losses.append(train(model, batch, 2, lr))
    assert losses[0]['loss_forget'] == 0
    assert losses[-1]['loss_retain'] < losses[0]['loss_retain']


def test_adam_leaves_the_teacher_without_help():
    """No dropout here: nothing but rounding sets the student off."""
    model = tiny_model('classification', dict(type='gslora_mm.SCRUB'))
    method, batch = model.method, tiny_batch('classification')
    method.prepare(model, TinyDataset('classification'))
    method.iterations_per_epoch = 30
    parameters = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.AdamW(parameters, lr=0.05))
    losses = [
        model.train_step(dict(batch), wrapper)['loss_forget'].item()
        for _ in range(20)
    ]
    assert abs(losses[0]) < 1e-5 and losses[-1] < -0.1


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(alpha=-0.1), 'method.alpha = -0.1'),
        (dict(gamma=float('nan')), 'method.gamma = nan'),
        (dict(temperature=0), 'method.temperature = 0'),
        (dict(msteps=0), 'method.msteps = 0'),
        (dict(msteps=1.5), 'method.msteps = 1.5'),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        SCRUB(**settings)
    assert named in str(error.value)
