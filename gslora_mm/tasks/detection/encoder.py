"""An encoder that is frozen with the trunk, as a decoder's adapter leaves it.

What it gives for a batch stands in the place of the trunk's feature maps:
their sizes, as maps without channels, and the memory behind them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from ..temporary import temporarily

#: Modules of mmdet's DETR family that come after the encoder.
AFTER_THE_ENCODER = ('decoder.', 'bbox_head.')


def encoder_is_frozen(detector: nn.Module) -> bool:
    """Whether nothing is trained but the decoder and the head.

    Args:
        detector (nn.Module): A ``DetectionTransformer`` of mmdet.
    """
    return all(
        name.startswith(AFTER_THE_ENCODER)
        for name, parameter in detector.named_parameters()
        if parameter.requires_grad
    )


def encoded(
    detector: nn.Module, maps: tuple[Tensor, ...], data_samples: Sequence
) -> tuple[Tensor, ...]:
    """Run the encoder of a detector.

    Args:
        detector (nn.Module): As above, its encoder in evaluation mode.
        maps (tuple[Tensor]): Feature maps of the trunk, (N, C, H, W).
        data_samples (Sequence): N data samples.

    Returns:
        tuple[Tensor]: For each map one of shape (N, 0, H, W), and the
        memory, (N, places, C).
    """
    inputs, _ = detector.pre_transformer(maps, data_samples)
    memory = detector.forward_encoder(**inputs)['memory']
    return (*(each[:, :0] for each in maps), memory)


def is_encoded(maps: tuple[Tensor, ...]) -> bool:
    """Whether these are not feature maps, but what :func:`encoded` gave."""
    return not maps[0].numel() and maps[0].shape[1] == 0


def without_encoder(
    detector: nn.Module, maps: tuple[Tensor, ...]
) -> tuple[AbstractContextManager, tuple[Tensor, ...]]:
    """Let a detector go on from what its encoder gave.

    Args:
        detector (nn.Module): As above.
        maps (tuple[Tensor]): Feature maps, or what :func:`encoded` gave.

    Returns:
        tuple: A context in which the encoder computes nothing, and maps for
        ``forward_transformer`` in it, of which it uses the sizes alone.
        Feature maps are given back, with a context that changes nothing.
    """
    if not is_encoded(maps):
        return nullcontext(), maps
    *sizes, memory = maps
    blank = memory.new_zeros(1, 1, 1, 1)
    maps = tuple(
        blank.expand(len(memory), memory.shape[2], *size.shape[2:])
        for size in sizes
    )
    skipped = temporarily(detector.encoder, forward=lambda *_, **__: memory)
    return skipped, maps
