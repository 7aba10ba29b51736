"""What methods with a teacher share."""

import pytest
import torch

from gslora_mm.methods import (
    DELETE,
    DER,
    DERPP,
    FDR,
    LIRF,
    SCRUB,
    SCRUBS,
    LwF,
)
from tests.processes import on_two_processes
from tests.test_methods.helpers import (
    LORA,
    TASKS,
    FakeModel,
    Fixed,
    Half,
    TinyDataset,
    before_and_after,
    losses_of,
    taught,
    total,
)

METHODS = (DELETE, LwF, DER, DERPP, FDR, LIRF, SCRUB, SCRUBS)
#: Two rows on one process and five on the other; of the whole, seven.
PARTS = {0: slice(0, 2), 1: slice(2, 7), None: slice(None)}


@pytest.mark.parametrize('cls', [DER, FDR])
def test_class_labels_are_not_replayed(cls):
    """What has no row has no logits: boxes, and the background."""
    method = cls()
    taught(method)
    retain = Half(0.6, 0.1)
    losses_of(method, Half(), retain)['loss_retain'].backward()
    assert retain.loss_cls.grad is None
    assert retain.loss_rest.grad == retain.loss_background.grad == 1


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize(
    ('cls', 'expected'), [(DER, 0.1), (FDR, 0.1), (LwF, 0.6 + 0.1)]
)
def test_without_rows_there_is_the_replay_alone(cls, expected, activation):
    method = cls()
    taught(method, rows=0)
    retain = Half(0.6, 0.1, labels=(), activation=activation)
    loss = losses_of(method, Half(), retain)['loss_retain']
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert retain.logits.grad.shape == (0, 4)


@pytest.mark.parametrize('adapter', [LORA, None])
@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('name', ['DER', 'DERPP', 'FDR', 'LwF'])
def test_a_model_is_trained_towards_its_teacher(name, task, adapter):
    before, after = before_and_after(
        name, task, adapter, 'distance_retain', beta=0.0, alpha=1e3
    )
    assert 0 < after < before


def gradients(rank):
    """Of the rows that a process has, by method."""
    found = {}
    for cls in METHODS:
        for iteration in (0, 10_000):
            half = Half(labels=(0, 1, 2, 3, 3, 1, 0), seed=4)
            for name in ('logits', 'features'):
                rows = getattr(half, name).detach()[PARTS[rank]]
                setattr(half, name, rows.clone().requires_grad_())
            half.labels = half.labels[PARTS[rank]]
            seen = [rows[PARTS[rank]] for rows in taught(cls(), rows=7)]
            method = cls()
            model = FakeModel(Fixed(*seen), groups=dict(a=[]))
            model.model.layer = torch.nn.Linear(1, 1)
            method.setup(model)
            method.prepare(model, TinyDataset('classification'))
            method.iteration = iteration
            total(losses_of(method, half, half)).backward()
            found[cls.name, iteration] = half.logits.grad
            if cls is LIRF:
                found['features', iteration] = half.features.grad
    return found


def test_two_processes_are_one_with_the_joint_batch(tmp_path):
    """Whatever share of the matched queries each of them has."""
    ranks = on_two_processes(gradients, tmp_path)
    for key, gradient in gradients(None).items():
        # Gradients are averaged over the two processes.
        found = torch.cat([rank[key] / 2 for rank in ranks])
        assert gradient.any(), key
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-7)
