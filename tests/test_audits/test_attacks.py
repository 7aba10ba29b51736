"""Single attacks, on rows made for them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gslora_mm.audits import Localisation, PrototypeAttack, Verification
from gslora_mm.audits.rounding import pruned, rounded
from gslora_mm.tasks import ObjectRows


def rows_of(features, labels, layer=None, found=None):
    logits = features if layer is None else layer(features).detach()
    found = torch.ones(len(labels)) if found is None else found
    scores = logits.softmax(1)
    named = scores.argmax(1) == labels
    return ObjectRows(
        labels, dict(embedding=features), logits, scores, found, named
    )


def evidence_of(rows, model=None, gone=None, kept=None):
    return SimpleNamespace(
        rows=lambda suspect, part: rows,
        model=lambda suspect: model,
        gone=gone,
        kept=kept,
        seeds=[0],
        task=SimpleNamespace(
            class_layer=lambda model: model,
            logits_of=lambda model, embeddings: model(embeddings),
        ),
    )


def test_finds_a_class_whose_row_was_turned_away():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data = torch.eye(3)
    layer.weight.data[0] = torch.tensor([-1.0, 0, 0])
    labels = torch.arange(3).repeat(10)
    features = torch.eye(3)[labels] + 0.05 * torch.randn(30, 3)
    own = layer.weight.clone()
    evidence = evidence_of(
        rows_of(features, labels, layer), layer, dict(a=0), dict(b=1, z=2)
    )
    assert (layer(features).argmax(1) != labels)[labels == 0].all()
    attack = PrototypeAttack(shots=(5,))
    ((setting, outcome),) = attack.measure(evidence, None)
    assert setting == dict(shots=5) and outcome.score == 1
    assert torch.equal(layer.weight, own)


@pytest.mark.parametrize(('score', 'expected'), [(0.3, 0.75), (0.5, 0.5)])
def test_counts_objects_that_any_box_finds(score, expected):
    found = torch.tensor([0.9, 0.5, 0.3, 0.1, 0.0])
    labels = torch.tensor([0, 0, 0, 0, 1])
    evidence = evidence_of(
        rows_of(torch.zeros(5, 2), labels, found=found), gone=dict(a=0)
    )
    ((_, outcome),) = Localisation(score=score).measure(evidence, None)
    assert outcome.score == expected


def test_tells_people_apart_by_their_faces():
    faces = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1], [5, 5]])
    labels = torch.tensor([0, 0, 1, 1, 2])
    evidence = evidence_of(rows_of(faces, labels), gone=dict(a=0, b=1))
    ((_, outcome),) = Verification().measure(evidence, None)
    assert outcome.score == 1
    evidence = evidence_of(
        rows_of(faces, torch.tensor([0, 1, 0, 1, 2])), gone=dict(a=0, b=1)
    )
    ((_, outcome),) = Verification().measure(evidence, None)
    assert outcome.score < 0.5


def test_rounds_rows_to_a_grid_and_prunes_the_smallest():
    weight = torch.tensor([[7.0, 3.4, -3.6], [0.7, 0.34, 0.0]])
    expected = torch.tensor([[7.0, 3, -4], [0.7, 0.3, 0]])
    torch.testing.assert_close(rounded(weight, 4), expected)
    assert pruned(weight, 0.5).count_nonzero() == 3
    assert torch.equal(pruned(weight, 0.1), weight)
