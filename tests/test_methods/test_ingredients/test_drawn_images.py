"""Images that a model is made to draw of classes that it knows."""

import pytest
import torch

from gslora_mm.methods.ingredients.drawn_images import DrawnImages
from gslora_mm.methods.ingredients.replay import without_adapter
from tests.test_methods.helpers import TASKS, WithoutForget, tiny_model

METHOD = dict(type='gslora_mm.MaskedDistillation')


def drawn(task, iterations, labels=(0,), images=5, batch_size=16):
    model = tiny_model(task, METHOD)
    torch.manual_seed(0)
    found = DrawnImages(
        model,
        WithoutForget(task),
        list(labels),
        images,
        iterations,
        batch_size,
    )
    return model, found


def loss_of(model, found, label):
    """The model's loss if all that is drawn were of one class."""
    with torch.no_grad(), without_adapter(model):
        half = found.half()
        return half.relabelled(lambda x: torch.full_like(x, label)).loss.item()


@pytest.mark.parametrize('task', TASKS)
def test_the_model_finds_the_class_in_what_is_drawn(task):
    losses = []
    for iterations in (1, 30):
        model, found = drawn(task, iterations)
        losses.append(loss_of(model, found, 0))
    assert losses[1] < 0.98 * losses[0]


@pytest.mark.parametrize('task', TASKS)
def test_drawing_changes_neither_the_model_nor_its_mode(task):
    model = tiny_model(task, METHOD)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    DrawnImages(model, WithoutForget(task), [0], 2, 2)
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in model.parameters())


def test_drawn_again_it_is_the_same():
    """A step that is killed and resumed goes on with the same images."""
    first, again = (drawn('classification', 3)[1] for _ in range(2))
    for (a, _), (b, _) in zip(first._batches, again._batches, strict=True):
        assert torch.equal(a, b)


def test_pixels_stay_in_their_range():
    _, found = drawn('classification', 20)
    _, plain = drawn('classification', 1)
    wild, calm = found._batches[0][0], plain._batches[0][0]
    assert (
        wild.amax() <= calm.amax() + 0.2 and wild.amin() >= calm.amin() - 0.2
    )


@pytest.mark.parametrize('images', [1, 5, 12])
def test_as_many_as_asked_in_batches(images):
    _, found = drawn('classification', 1, (0, 2), images, batch_size=4)
    sizes = [len(samples) for _, samples in found._batches]
    assert sum(sizes) == images and max(sizes) <= 4


def test_each_class_is_drawn_in_turn(monkeypatch):
    """Over the batches, too: none may be left out."""
    drawn_labels = []
    monkeypatch.setattr(
        DrawnImages,
        '_draw',
        lambda self, start, samples, labels, iterations: (
            drawn_labels.extend((labels * 9)[: len(samples)]) or start
        ),
    )
    drawn('classification', 1, (0, 1, 2), 10, batch_size=4)
    assert drawn_labels == [0, 1, 2] * 3 + [0]


def test_the_range_of_the_pixels_does_not_matter():
    """A preprocessor that does not normalise gives 0 ... 255."""
    losses = []
    for iterations in (1, 60):
        model = tiny_model('classification', METHOD)
        dataset = WithoutForget('classification')
        dataset.inputs = dataset.inputs.float() * 50
        torch.manual_seed(0)
        found = DrawnImages(model, dataset, [0], 5, iterations)
        losses.append(loss_of(model, found, 0))
    assert losses[1] < 0.98 * losses[0]
