"""The teacher is the model as it was when the step began."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from gslora_mm.lora import lora_layers
from gslora_mm.methods import LwF
from gslora_mm.methods.ingredients.teacher import Teacher
from gslora_mm.methods.ingredients.weight_drift import trained_weights
from gslora_mm.training import ForgettingModel
from tests.classifiers import build_classifier
from tests.detectors import build_detector
from tests.test_methods.helpers import (
    LORA,
    TASKS,
    TinyDataset,
    moved,
    stock_config,
    taught,
    tiny_batch,
    tiny_model,
    train,
)

METHODS = ('LwF', 'LIRF', 'SCRUB')  # the others hold it alike
with_and_without_adapter = pytest.mark.parametrize('adapter', [LORA, None])
for_both_tasks = pytest.mark.parametrize('task', TASKS)


def build_stock(task, seed):
    if task == 'detection':
        return build_detector('deformable_detr', seed=seed)
    return build_classifier('vit', seed=seed)


def half_of(model, task):
    """A retain half as in training, of four images, with nothing computed."""
    data = model.data_preprocessor(tiny_batch(task, 'retain'), True)
    inputs, samples = data['inputs'], data['data_samples']
    features = model._extract(inputs)
    everything = torch.arange(4)
    return model.task.half(
        model.model, inputs, features, samples, everything, 'retain'
    )


@with_and_without_adapter
@for_both_tasks
@pytest.mark.parametrize('name', METHODS)
def test_it_is_the_model_of_the_checkpoint(name, task, adapter, tmp_path):
    """Fault 3 of the public code: copied before a checkpoint was loaded."""
    stock = build_stock(task, seed=3).eval()
    path = str(tmp_path / 'stock.pth')
    torch.save(stock.state_dict(), path)
    config = stock_config(task)
    init_default_scope('mmdet' if task == 'detection' else 'mmpretrain')
    model = ForgettingModel(
        config,
        dict(type=f'gslora_mm.{task.capitalize()}Task'),
        dict(type=f'gslora_mm.{name}'),
        adapter,
        checkpoint=path,
    ).train()
    model.method.prepare(model, TinyDataset(task))
    moved(model)
    half = half_of(model, task)
    seen = model.method.teacher.sees(half)
    expected = half.seen_by(stock)
    torch.testing.assert_close(seen.logits, expected.logits)
    torch.testing.assert_close(seen.features, expected.features)
    assert not torch.allclose(seen.logits, half.logits)


@with_and_without_adapter
@for_both_tasks
def test_it_stays_where_it_is(task, adapter):
    model = tiny_model(task, dict(type='gslora_mm.LwF'), adapter)
    model.method.prepare(model, TinyDataset(task))
    teacher, half = model.method.teacher, half_of(model, task)
    before = teacher.sees(half)
    train(model, tiny_batch(task), 3, lr=1e-2)
    after = teacher.sees(half)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.features, after.features)
    model.eval()
    student = half_of(model, task).seen_by(model.model)
    assert not torch.allclose(after.logits, student.logits)


@with_and_without_adapter
@for_both_tasks
@pytest.mark.parametrize('name', METHODS)
def test_it_is_not_saved(name, task, adapter):
    model = tiny_model(task, dict(type=f'gslora_mm.{name}'), adapter)
    model.method.prepare(model, TinyDataset(task))
    assert not model.method.state_dict()
    assert not list(model.method.modules())[1:]
    assert all(k.startswith('model.') for k in model.resume_state_dict())
    assert (model.method.teacher._copy is None) == bool(adapter)


@for_both_tasks
def test_a_copy_is_not_trained(task):
    model = tiny_model(task, dict(type='gslora_mm.LwF'), None)
    model.method.prepare(model, TinyDataset(task))
    frozen = list(model.method.teacher._copy.parameters())
    assert frozen and not any(p.requires_grad for p in frozen)
    student = {id(p) for p in model.parameters()}
    assert not student & {id(p) for p in frozen}


@with_and_without_adapter
@for_both_tasks
def test_asked_first_it_leaves_the_student_its_own_pass(task, adapter):
    """Rows of a detector are found by a pass, which is the student's."""
    model = moved(tiny_model(task, dict(type='gslora_mm.LwF'), adapter))
    torch.manual_seed(0)
    expected = half_of(model, task).loss
    half = half_of(model, task)
    torch.manual_seed(0)
    seen = Teacher(model, TinyDataset(task)).sees(half)
    assert not seen.logits.requires_grad and not seen.features.requires_grad
    torch.testing.assert_close(half.loss, expected)
    assert half.loss.requires_grad
    assert half.logits.shape == seen.logits.shape


@for_both_tasks
@pytest.mark.parametrize('fails', [False, True])
def test_the_model_is_left_as_it_was(task, fails, monkeypatch):
    model = tiny_model(task, dict(type='gslora_mm.LwF'))
    half = half_of(model, task)
    modes = {n: m.training for n, m in model.named_modules()}
    seen_by, during = half.seen_by, []

    def look(stock):
        layers = lora_layers(stock).values()
        adapted = any(layer.enabled for layer in layers)
        during.append((stock.training, adapted, torch.is_grad_enabled()))
        if fails:
            raise RuntimeError('no memory')
        return seen_by(stock)

    monkeypatch.setattr(half, 'seen_by', look)
    teacher = Teacher(model, TinyDataset(task))
    if fails:
        with pytest.raises(RuntimeError, match='no memory'):
            teacher.sees(half)
    else:
        teacher.sees(half)
    assert during == [(False, False, False)]
    assert modes == {n: m.training for n, m in model.named_modules()}
    assert all(x.enabled for x in lora_layers(model).values())
    assert torch.is_grad_enabled()


def test_in_evaluation_mode():
    """Its dropouts and batch norms are as when the model is used."""
    model = tiny_model('classification', dict(type='gslora_mm.LwF'), None)
    model.method.prepare(model, TinyDataset('classification'))
    assert model.training
    assert not any(m.training for m in model.method.teacher._copy.modules())


def test_a_method_and_its_teacher_can_be_copied():
    """As by hooks that keep another state of the model."""
    model = tiny_model('classification', dict(type='gslora_mm.LwF'))
    model.method.prepare(model, TinyDataset('classification'))
    other = moved(copy.deepcopy(model))
    half = half_of(other, 'classification')
    seen = other.method.teacher.sees(half)
    expected = half.seen_by(model.model.eval())
    torch.testing.assert_close(seen.logits, expected.logits)


@pytest.mark.parametrize('columns', [4, 5])
def test_all_is_kept_but_the_classes_of_the_step(columns):
    """One without images, too: the teacher has seen it. And background."""
    method = LwF()
    taught(method)
    logits = torch.arange(columns).repeat(2, 1)
    assert (
        method.teacher.kept(logits).tolist() == [list(range(1, columns))] * 2
    )
    found = method.teacher.kept(logits, background=False).tolist()
    assert found == [[1, 2, 3]] * 2


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_a_teacher_of_before_speaks_with_its_weights(task, adapter):
    """And the gradients of the student are those of its own weights."""
    method = dict(type='gslora_mm.MaskedDistillation')
    model = tiny_model(task, method, adapter)
    before = {k: v.detach().clone() for k, v in trained_weights(model).items()}
    assert before and not any('lora' in name for name in before)
    half = half_of(model, task)
    first = Teacher(model, TinyDataset(task)).sees(half)
    with torch.no_grad():
        for weight in trained_weights(model).values():
            weight.mul_(1.2)
    own = {k: v.detach().clone() for k, v in trained_weights(model).items()}

    def gradients(teacher):
        half = half_of(model, task)
        seen = teacher.sees(half)
        loss = (half.logits - seen.logits).square().mean()
        model.zero_grad()
        loss.backward()
        return seen, [
            p.grad.clone() for p in model.parameters() if p.grad is not None
        ]

    model.eval()
    old = Teacher(model, TinyDataset(task), before)
    seen, found = gradients(old)
    torch.testing.assert_close(seen.logits, first.logits)
    for name, weight in trained_weights(model).items():
        assert torch.equal(weight, own[name])
    # The same teacher, stored as another model.
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in trained_weights(other).items():
            weight.copy_(before[name])
    stored = Teacher(other, TinyDataset(task))
    _, expected = gradients(stored)
    assert len(found) == len(expected) > 0
    for one, another in zip(found, expected, strict=True):
        torch.testing.assert_close(one, another)
