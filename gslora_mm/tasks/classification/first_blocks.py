"""The first blocks of a ViT, frozen where only later ones are adapted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from torch import Tensor, nn

from gslora_mm.models.stock_keys import is_frozen
from ..temporary import temporarily


def frozen_blocks(backbone: nn.Module) -> list[nn.Module]:
    """Blocks before the first module that is trained, in order.

    Args:
        backbone (nn.Module): Any backbone; others than mmpretrain's
            ``VisionTransformer`` have none here.
    """
    from mmpretrain.models.backbones import VisionTransformer

    if type(backbone) is not VisionTransformer:
        return []
    blocks = list(backbone.layers)
    first = next((i for i, b in enumerate(blocks) if not is_frozen([b])), 0)
    inside = {id(p) for block in blocks for p in block.parameters()}
    before = [p for p in backbone.parameters() if id(p) not in inside]
    # Where a final norm is trained, which comes later, there are none either.
    if any(p.requires_grad for p in before) or min(
        backbone.out_indices
    ) < first:
        return []
    return blocks[:first]


def tokens_after(backbone: nn.Module, inputs: Tensor, blocks: list) -> Tensor:
    """What the last of the first blocks gives.

    Args:
        backbone (nn.Module): See :func:`frozen_blocks`.
        inputs (Tensor): Preprocessed images, (N, C, H, W).
        blocks (list[nn.Module]): The first blocks, at least one.

    Returns:
        Tensor: Shape (N, tokens, C).
    """

    class Found(Exception):
        """All that is wanted is there."""

    found = []

    def stop(_: nn.Module, args: tuple, output: Tensor) -> None:
        found.append(output)
        raise Found

    with blocks[-1].register_forward_hook(stop):
        with suppress(Found):
            backbone(inputs)
    return found[0]


@contextmanager
def going_on_from(
    tokens: Tensor | None, blocks: list[nn.Module]
) -> Iterator[None]:
    """Let the first blocks of a backbone give known tokens.

    Args:
        tokens (Tensor, optional): What :func:`tokens_after` gave; nothing is
            changed if there are none.
        blocks (list[nn.Module]): The first blocks.
    """
    with ExitStack() as stack:
        for block in blocks if tokens is not None else ():
            stack.enter_context(temporarily(block, forward=lambda _: tokens))
        yield
