import torch
from torch import Tensor, nn

from gslora_mm.registry import ATTACKS
from .base import BaseAttack


@ATTACKS.register_module()
class Rounding(BaseAttack):
    """Weights rounded, or the smallest set to zero, as for a deployment.

    An erasure that moves weights by less than a step of the rounding is
    undone by it ("Does your LLM truly unlearn? An embarrassingly simple
    approach to recover unlearned knowledge", arXiv 2410.16454). Each row of
    a weight matrix is rounded to a symmetric grid of its own.

    Args:
        share: Of the weights of a layer that pruning sets to zero.
    """

    name = 'rounding'
    metric = 'headline score'
    resisting = 'The classes do not come back when its weights are rounded.'
    share: float = 0.3

    def cost(self, evidence):
        return 3 * len(evidence.validation)

    def measure(self, evidence, suspect):
        for kind in ('int8', 'int4', 'pruned'):
            model = evidence.model(suspect)
            change_weights(
                model,
                (lambda w: pruned(w, self.share))
                if kind == 'pruned'
                else (lambda w, bits=int(kind[3:]): rounded(w, bits)),
            )
            yield dict(weights=kind), evidence.score(model)


@torch.no_grad()
def change_weights(model: nn.Module, change) -> None:
    """Replace all weights of two or more dimensions, in place."""
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.copy_(change(parameter))


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Round to integers of some bits, with a scale for each row.

    Args:
        weight (Tensor): Shape (rows, ...).
        bits (int): 2 or more.
    """
    rows = weight.flatten(1)
    largest = 2 ** (bits - 1) - 1
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / largest
    return ((rows / scale).round() * scale).view_as(weight)


def pruned(weight: Tensor, share: float) -> Tensor:
    """Set the smallest weights to zero.

    Args:
        weight (Tensor): Of any shape.
        share (float): Of the weights.
    """
    count = int(share * weight.numel())
    if not count:
        return weight
    threshold = weight.abs().flatten().kthvalue(count).values
    return weight * (weight.abs() > threshold)
