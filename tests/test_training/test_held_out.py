"""Looks at images that a step does not train on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from gslora_mm.tasks import ObjectRows
from gslora_mm.training.held_out import HeldOut


class Half:
    """Some images of a half, numbered from ``start``, all of one label."""

    def __init__(self, start, count, label):
        self.images = list(range(start, start + count))
        self.labels = np.array([label])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.tensor([float(self.images[index]), torch.rand(1)])
        return dict(inputs=image, data_samples=None)


class Task:
    """Reads a number off an image; the batch is what it has seen."""

    def __init__(self):
        self.seen = []

    def object_rows(self, model, batch):
        images = torch.stack(batch['inputs'])
        self.seen.append(images.tolist())
        rows = images[:, :1]
        model(rows.expand(-1, 3))
        labels = rows[:, 0].long() % 2
        probabilities = (0.1 * rows).expand(-1, 2)
        return ObjectRows(
            labels, {}, rows, probabilities, rows[:, 0], rows[:, 0] < 4
        )

    def read(self, model, batch):
        model(torch.rand(len(batch['inputs']), 3))
        return SimpleNamespace(loss=torch.stack(batch['inputs'])[:, 0].mean())


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.task = Task()
        self.model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))


def dataset(forget, retain, aside=(0, 0)):
    halves = [Half(0, forget, 1), Half(100, retain, 0)]
    held_out = [Half(0, aside[0], 1), Half(100, aside[1], 0)]
    return SimpleNamespace(datasets=halves, held_out=held_out)


def test_counts_what_is_to_be_forgotten_alone():
    look = HeldOut(dataset(8, 5, (8, 5)), batch_size=3).look(Model())
    # Objects 1, 3, 5, 7 have the label; 1 and 3 are named.
    assert look.named == 0.5
    assert look.surety == pytest.approx(0.4)
    assert look.loss == pytest.approx(102)


def test_leaves_the_model_as_it_was_and_sees_the_same_again():
    images, model = dataset(6, 4), Model().train()
    model.model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    held_out = HeldOut(images)
    looks = [held_out.look(model) for _ in range(2)]
    looks.append(HeldOut(images).look(model))
    assert looks[0] == looks[1] == looks[2]
    assert model.task.seen[0] == model.task.seen[2]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert [m.training for m in model.modules()] == [True, True, True, False]


def test_takes_what_is_spared_and_no_more_than_asked_for():
    for aside, seen in (((3, 0), [0, 2]), ((0, 3), [0, 7])):
        held_out = HeldOut(dataset(8, 0, aside), most=2)
        assert held_out.is_spared == bool(aside[0])
        model = Model()
        look = held_out.look(model)
        (batch,) = model.task.seen
        assert [number for number, _ in batch] == seen
        assert (look.loss is None) == (aside[1] == 0)
