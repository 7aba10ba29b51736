"""Values that have to be the same on all processes."""

import torch
from torch import nn

from gslora_mm.utils.distributed import share_gradients
from tests.processes import on_two_processes


def shared(rank):
    """Gradients of parameters that both, one or none of the two have used."""
    parameters = [nn.Parameter(torch.zeros(2, 3)) for _ in range(4)]
    parameters[3].requires_grad_(False)
    parameters[0].grad = torch.full((2, 3), 1.0 + rank)
    if rank:
        parameters[1].grad = torch.arange(6.0).reshape(2, 3)
    share_gradients(parameters)
    return [each.grad for each in parameters]


def test_gradients_are_means_over_processes(tmp_path):
    for both, one, *none in on_two_processes(shared, tmp_path):
        assert torch.equal(both, torch.full((2, 3), 1.5))
        assert torch.equal(one, torch.arange(6.0).reshape(2, 3) / 2)
        assert none == [None, None]


def test_one_process_has_its_own():
    assert torch.equal(shared(0)[0], torch.ones(2, 3))
