"""Counterfactual distillation: an image without what is to be forgotten."""

import pytest
import torch
from mmengine.structures import InstanceData

from gslora_mm.methods.counterfactual_distillation import layer_distance
from gslora_mm.methods.ingredients.class_means import ClassMeans
from gslora_mm.methods.ingredients.teacher import Teacher
from gslora_mm.utils import ConfigError
from .helpers import (
    LORA,
    TASKS,
    TinyDataset,
    WithoutForget,
    tiny_batch,
    tiny_model,
    train,
)

METHOD = dict(type='gslora_mm.CounterfactualDistillation')
ALL = dict(rank=4, alpha=8.0, target='all')


def prepared(task, adapter=LORA, **settings):
    model = tiny_model(task, dict(METHOD, **settings), adapter)
    model.method.prepare(model, TinyDataset(task))
    return model


def own_batch(task):
    """Images to forget show what is to be forgotten."""
    dataset = TinyDataset(task)
    return dict(inputs=list(dataset.inputs), data_samples=dataset.samples)


def test_distance_in_units_of_what_is_to_change():
    generator = torch.Generator().manual_seed(0)
    own, other, before = torch.randn(3, 5, 7, 8, generator=generator)
    named = [dict(a=x, b=100 * x + 3) for x in (own, other, before)]
    expected = (own - other).square().mean() / (before - other).square().mean()
    assert layer_distance(*named).item() == pytest.approx(expected.item())
    own, other, before = named
    assert layer_distance(before, other, before) == 1
    assert layer_distance(other, other, before) == 0
    # Nothing is to change: in units of the variance.
    found = layer_distance(own, other, other)
    assert 1 < found.item() < 3


@pytest.mark.parametrize('adapter', [ALL, None])
@pytest.mark.parametrize('task', TASKS)
def test_trains_a_real_model(task, adapter):
    model = prepared(task, adapter, w_labels=0.1)
    batch = own_batch(task)
    before = train(model, batch, lr=0)
    # Retain images are their own counterfactual.
    assert before['layers_retain'] < 1e-6
    assert before['layers_forget'].item() == pytest.approx(1, abs=1e-3)
    train(model, batch, 25, lr=3e-3 if adapter else 1e-5)
    after = train(model, batch, lr=0)
    assert after['layers_forget'] < before['layers_forget']
    assert all(value.isfinite() for value in after.values())


def test_class_means_of_a_classifier_are_alike_afterwards():
    model = prepared('classification')
    dataset = TinyDataset('classification')
    means = ClassMeans(model, dataset, Teacher(model, dataset))
    batch = dict(
        inputs=list(dataset.inputs[:2]), data_samples=dataset.samples[:2]
    )
    half = model.task.read(model.model, batch)
    view = Teacher(model, dataset).views(half)
    found = means.removed(view, half.labels, 1.0)
    rest = dict(
        inputs=list(dataset.inputs[2:]), data_samples=dataset.samples[2:]
    )
    other = model.task.read(model.model, rest)
    for depth, retained in Teacher(model, dataset).views(other).layers.items():
        torch.testing.assert_close(
            found.layers[depth].mean(0),
            retained.mean(0),
            atol=1e-5,
            rtol=1e-4,
        )
        # What is particular to an image stays.
        torch.testing.assert_close(
            found.layers[depth][0] - found.layers[depth][1],
            view.layers[depth][0] - view.layers[depth][1],
            atol=1e-5,
            rtol=1e-4,
        )
    torch.testing.assert_close(
        found.outputs,
        model.task.logits_of(model.model, found.layers['embedding']),
    )


def test_a_detector_looks_at_an_image_without_its_objects(monkeypatch):
    from gslora_mm.tasks.detection import half as module

    seen = []

    def paint(inputs, boxes, spared):
        seen.append((boxes, spared))
        return torch.zeros_like(inputs)

    monkeypatch.setattr(module, 'painted_over', paint)
    model = prepared('detection')
    batch = tiny_batch('detection', role='forget')
    log = train(model, batch, lr=0)
    ((boxes, spared),) = seen
    assert len(boxes) == len(spared) == 4
    is_gone = model.method.gone
    for holes, whole, sample in zip(
        boxes, spared, batch['data_samples'], strict=True
    ):
        objects = sample.gt_instances
        assert torch.equal(holes, objects.bboxes[is_gone[objects.labels]])
        assert torch.equal(whole, objects.bboxes[~is_gone[objects.labels]])
    assert log['layers_forget'] > 0
    monkeypatch.setattr(module, 'painted_over', lambda x, *boxes: x)
    assert train(model, batch, lr=0)['layers_forget'] < 1e-6


def test_what_is_to_be_ignored_is_painted_over_or_spared(monkeypatch):
    from gslora_mm.tasks.detection import half as module

    seen = []

    def paint(inputs, boxes, spared):
        seen.append((boxes, spared))
        return inputs

    monkeypatch.setattr(module, 'painted_over', paint)
    model = prepared('detection')
    model.method.gone = torch.tensor([True, False, True, False])
    batch = tiny_batch('detection', role='retain')
    for sample in batch['data_samples']:
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
            labels=torch.tensor([2, 3]),
        )
        sample.gt_instances.labels.fill_(1)
    train(model, batch, lr=0)
    ((boxes, spared),) = seen
    for holes, whole in zip(boxes, spared, strict=True):
        assert holes.tolist() == [[1.0, 2, 3, 4]]
        assert whole[-1].tolist() == [5.0, 6, 7, 8]


def test_what_was_forgotten_before_is_painted_over_as_well():
    model = prepared('detection')
    model.method.gone = torch.tensor([False, False, False, True])
    model.method.prepare(model, TinyDataset('detection'))
    assert model.method.gone[3] and model.method.gone.sum() > 1


@pytest.mark.parametrize('task', TASKS)
def test_needs_images_of_what_goes(task):
    model = tiny_model(task, METHOD)
    with pytest.raises(ConfigError, match='forget_share = 0: Counterf'):
        model.method.prepare(model, WithoutForget(task))
