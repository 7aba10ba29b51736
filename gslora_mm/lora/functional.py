"""The adapter's mathematics, on tensors.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
arXiv 2106.09685, section 4.1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gslora_mm.utils.precision import without_autocast


def merge_weight(
    weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float
) -> Tensor:
    """``weight + scaling * lora_B @ lora_A`` as a new, detached tensor.

    The one place where an update is folded in: layers, state dicts and the
    merging tool get the same bits. Half-precision weights are summed in
    float32 and rounded once.

    Args:
        weight: Stock weight, (out, in).
        lora_A: (rank, in).
        lora_B: (out, rank).
        scaling: alpha / rank.

    Returns:
        Tensor: (out, in), type and device of ``weight``.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    with torch.no_grad(), without_autocast(weight):
        base, down, up = (
            tensor.detach().to(weight.device, dtype)
            for tensor in (weight, lora_A, lora_B)
        )
        return torch.addmm(base, up, down, alpha=scaling).to(weight.dtype)


class LowRankLinear(torch.autograd.Function):
    """``x W^T + b + s (x A^T) B^T`` for a frozen W, in few and cheap passes.

    What autograd would derive, but for three things that count because
    everything beside the two products with W is bound by memory: the update
    is added in place in the output and in the gradient of the input, and
    that of B is computed transposed, which is twice as fast for few columns.
    Of the inputs, x alone is kept.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lora_A: Tensor,
        lora_B: Tensor,
        scaling: float,
    ) -> tuple[Tensor, Tensor]:
        """Compute the layer, and the (N, rank) inputs of B."""
        out = F.linear(x, weight, bias)
        hidden = F.linear(x, lora_A)
        return out.addmm_(hidden, lora_B.t(), alpha=scaling), hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Keep what the gradients need."""
        x, weight, _, lora_A, lora_B, ctx.scaling = inputs
        _, hidden = output
        ctx.mark_non_differentiable(hidden)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, lora_A, lora_B, hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple:
        """Gradients of x, A and B."""
        if grad is None:
            return (None,) * 6
        x, weight, lora_A, lora_B, hidden = ctx.saved_tensors
        needs_x, *_, needs_A, needs_B, _ = ctx.needs_input_grad
        grad_x = grad_A = grad_B = None
        if needs_B:
            grad_B = (hidden.t() @ grad).t() * ctx.scaling
        if needs_x or needs_A:
            grad_hidden = (grad @ lora_B) * ctx.scaling
        if needs_A:
            grad_A = grad_hidden.t() @ x
        if needs_x:
            grad_x = (grad @ weight).addmm_(grad_hidden, lora_A)
        return grad_x, None, None, grad_A, grad_B, None
