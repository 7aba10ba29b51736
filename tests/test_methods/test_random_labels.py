"""Random labels: all of the classes that are kept, and only these."""

import copy

import pytest
import torch

from gslora_mm.methods import RandomLabels
from gslora_mm.utils import ConfigError
from .helpers import (
    LORA,
    TASKS,
    FakeModel,
    Half,
    TinyDataset,
    losses_of,
    tiny_batch,
    tiny_model,
    total,
    train,
)

RANDOM_LABELS = dict(type='gslora_mm.RandomLabels')


def set_up(beta=1.0):
    method = RandomLabels(beta=beta)
    model = FakeModel()
    method.setup(model)
    method.prepare(model, TinyDataset('classification'))
    return method


def forgetting_everything(task):
    """Random batches hold objects of all classes in both halves."""
    dataset = TinyDataset(task)
    dataset.datasets[0].labels = range(len(dataset.metainfo['classes']))
    return dataset


def test_loss_by_hand():
    """That of the forget half is of the wrong labels, boxes included."""
    forget = Half(1.5, 0.7, relabelled_losses=(2.5, 0.3))
    losses = losses_of(set_up(0.2), forget, Half(0.4, 0.2))
    expected = (0.4 + 0.2) + 0.2 * (2.5 + 0.3)
    assert total(losses).item() == pytest.approx(expected, 1e-6)


def test_the_true_labels_are_not_trained():
    forget = Half(1.5, 0.7)
    total(losses_of(set_up(0.2), forget, Half())).backward()
    assert forget.loss_cls.grad is None and forget.loss_rest.grad is None
    wrong = forget.last_relabelled
    assert wrong.loss_cls.grad.item() == pytest.approx(0.2)


def test_every_kept_class_is_drawn_equally_often():
    """Fault 9 of the public code: only a few ids were ever used."""
    model, dataset = FakeModel(), TinyDataset('classification')
    dataset.metainfo = dict(classes=[f'person {i}' for i in range(100)])
    forget = ['person 0', 'person 50']
    # Two people were forgotten before, and one has no retain images.
    kept = [c for c in dataset.metainfo['classes'] if c not in forget][2:]
    dataset.datasets[0].labels = [0, 50]
    dataset.datasets[1].class_counts = {**dict.fromkeys(kept, 3), kept[7]: 0}
    method = RandomLabels()
    method.setup(model)
    method.prepare(model, dataset)
    torch.manual_seed(0)
    labels = torch.tensor([0, 50]).repeat(48_000)
    counts = method.wrong_labels.draw(labels).bincount(minlength=100)
    expected = [dataset.metainfo['classes'].index(name) for name in kept]
    expected.remove(dataset.metainfo['classes'].index(kept[7]))
    assert counts.nonzero().flatten().tolist() == expected
    mean = 96_000 / len(expected)
    assert (counts[expected] - mean).abs().max() < 6 * mean**0.5


def test_labels_are_drawn_anew_by_the_generator_of_torch():
    method, forget = set_up(), Half(labels=[0] * 64)
    drawn = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)  # as the hook does in every iteration
        losses_of(method, forget, Half())
        drawn.append(forget.last_relabelled.labels)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_what_the_head_reads_is_relabelled():
    """mmpretrain's heads take one-hot labels where there are any."""
    model = tiny_model('classification', RANDOM_LABELS)
    batch = tiny_batch('classification')
    half = model.task.read(model.model, copy.deepcopy(batch))
    wrong = half.relabelled(lambda labels: (labels + 1) % 4)
    for sample in batch['data_samples']:
        sample.set_gt_label((sample.gt_label + 1) % 4)
    expected = model.task.read(model.model, batch)
    assert wrong.labels.tolist() == expected.labels.tolist()
    assert wrong.loss.item() == expected.loss.item()
    assert abs(half.loss.item() - expected.loss.item()) > 1e-3


def test_objects_become_background():
    model = tiny_model('detection', RANDOM_LABELS)
    method = model.method
    method.prepare(model, forgetting_everything('detection'))
    half = model.task.read(model.model, tiny_batch('detection'))
    wrong = half.relabelled(method.wrong_labels.draw)
    assert len(half.labels) and not len(wrong.labels)
    assert wrong.loss_rest.item() == 0  # no boxes
    wrong.loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_retained_objects_of_forget_images_stay():
    """As ``other_annotations='keep'`` leaves them."""
    model = tiny_model('detection', RANDOM_LABELS)
    method, dataset = model.method, TinyDataset('detection')
    method.prepare(model, dataset)
    batch = tiny_batch('detection')
    gone = dataset.datasets[0].labels[0]
    kept = dataset.datasets[1].labels[0]
    for sample in batch['data_samples']:
        sample.gt_instances.labels[:] = kept
        sample.gt_instances.labels[0] = gone
    half = model.task.read(model.model, batch)
    wrong = half.relabelled(method.wrong_labels.draw)
    images = len(batch['data_samples'])
    assert half.labels.tolist().count(gone) == images
    assert set(wrong.labels.tolist()) == {kept}
    assert len(wrong.labels) == len(half.labels) - images


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
def test_both_losses_fall(task, adapter):
    model = tiny_model(task, RANDOM_LABELS, adapter)
    model.method.prepare(model, forgetting_everything(task))
    batch = tiny_batch(task)
    loss = train(model, batch, lr=0)['loss']
    train(model, batch, 20)
    assert train(model, batch, lr=0)['loss'] < loss


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match='method.beta = -1.*must be'):
        RandomLabels(beta=-1)
