"""The adapter under DistributedDataParallel: two processes, gloo, CPU."""

import torch
from torch import nn

from gslora_mm.lora import inject_lora, lora_parameters
from tests.processes import on_two_processes
from tests.test_lora.helpers import Toy, perturb

STEPS = 3


def make(seed: int) -> Toy:
    torch.manual_seed(0)
    model = Toy()
    torch.manual_seed(seed)
    inject_lora(model, rank=4, target='all')
    return perturb(model, seed)


def train(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in parameters]


def batch() -> torch.Tensor:
    return torch.randn(4, 7, 8, generator=torch.Generator().manual_seed(0))


def trained(rank: int) -> list[torch.Tensor]:
    # the adapter of rank 0 counts, whatever the others drew
    model = nn.parallel.DistributedDataParallel(make(seed=1 + rank))
    return train(model, batch()[2 * rank : 2 * rank + 2])


def test_two_processes_train_as_one_with_the_joint_batch(tmp_path):
    ranks = on_two_processes(trained, tmp_path)
    model = make(seed=1)
    start = [p.detach().clone() for p in lora_parameters(model)]
    joint = train(model, batch())
    assert len(start) == len(joint) == len(ranks[0]) == 12
    for before, one, first, second in zip(start, joint, *ranks, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, one, atol=1e-6, rtol=1e-5)
        assert not torch.equal(first, before)
