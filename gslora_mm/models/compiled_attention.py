"""Multi-scale deformable attention on a CPU, in C++.

The same sum as in :mod:`~gslora_mm.models.deformable_attention`, by
``csrc/deformable_attention.cpp``: one pass over the points, in which nothing
is made that is as large as what they read. See :mod:`~.compiled`.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from .compiled import library
from .deformable_attention import in_float32

#: Of mmcv's layer, by name: those that say something on a CPU.
ARGUMENTS = (
    'value',
    'identity',
    'query_pos',
    'key_padding_mask',
    'reference_points',
    'spatial_shapes',
)


class _Sizes(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            'images pixels heads channels queries levels points coordinates '
            'threads'
        ).split()
    ]


def compiled_attention(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum what is read around every query.

    Arguments, result and precision are those of
    :func:`~gslora_mm.models.deformable_attention.deformable_attention`.

    Raises:
        NotCompiledError: See :func:`~.compiled.library`.
    """
    library()

    def attend(value, shapes, locations, weights):
        return _Attention.apply(value, shapes, None, locations, weights)

    return in_float32(attend, value, shapes, locations, weights)


def compiled_layer(
    layer: nn.Module,
    query: Tensor,
    value: Tensor | None,
    identity: Tensor | None,
    query_pos: Tensor | None,
    key_padding_mask: Tensor | None,
    reference_points: Tensor,
    spatial_shapes: Tensor,
) -> Tensor:
    """What mmcv's ``MultiScaleDeformableAttention`` computes.

    Softmax and the places around the reference points are part of the sum:
    of a handful of samples a head, they take PyTorch as long.

    Args:
        layer (nn.Module): mmcv's layer.
        query, value, identity, query_pos, key_padding_mask,
            reference_points, spatial_shapes (Tensor): See there; on a CPU,
            in float32 or float64. Under autocast what is projected has less,
            and the sum is computed in float32.

    Raises:
        NotCompiledError: See :func:`~.compiled.library`.
    """
    library()
    value = query if value is None else value
    identity = query if identity is None else identity
    if query_pos is not None:
        query = query + query_pos
    if not layer.batch_first:
        query, value = query.transpose(0, 1), value.transpose(0, 1)
    value = layer.value_proj(value)
    if key_padding_mask is not None:
        value = value.masked_fill(key_padding_mask[..., None], 0.0)
    samples = (layer.num_heads, layer.num_levels, layer.num_points)
    output = in_float32(
        _Attention.apply,
        value.unflatten(2, (layer.num_heads, -1)),
        spatial_shapes,
        reference_points,
        layer.sampling_offsets(query).unflatten(2, (*samples, 2)),
        layer.attention_weights(query).unflatten(2, samples),
    )
    output = layer.output_proj(output)
    if not layer.batch_first:
        output = output.transpose(0, 1)
    return layer.dropout(output) + identity


class _Attention(torch.autograd.Function):
    """The sum, by the shapes that stand in the C++ file.

    Without references, offsets are locations, and scores are weights.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        value: Tensor,
        shapes: Tensor,
        references: Tensor | None,
        offsets: Tensor,
        scores: Tensor,
    ) -> Tensor:
        inputs = [
            None if tensor is None else tensor.contiguous()
            for tensor in (value, shapes.long(), references, offsets)
        ]
        weights = scores.contiguous()
        if references is not None and weights.data_ptr() == scores.data_ptr():
            weights = weights.clone()  # they become weights in place
        inputs.append(weights)
        ctx.save_for_backward(*inputs)
        n, queries, heads = offsets.shape[:3]
        output = value.new_empty(n, queries, heads * value.shape[3])
        _call('forward', inputs, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        value, _, references, offsets, weights = inputs
        needs_value, _, needs_references, *needs = ctx.needs_input_grad
        gradients = [
            torch.zeros_like(value) if needs_value else None,
            torch.empty_like(offsets) if needs_references else None,
            torch.empty_like(offsets) if needs[0] else None,
            torch.empty_like(weights) if needs[1] else None,
        ]
        _call('backward', inputs, grad.contiguous(), gradients)
        of_value, of_locations, of_offsets, of_weights = gradients
        of_references = None
        if needs_references:
            of_references = of_locations.sum((2, 4))
            if references.shape[3] == 4:
                sizes = of_locations * offsets
                sizes = sizes.sum((2, 4)) * (0.5 / offsets.shape[4])
                of_references = torch.cat([of_references, sizes], dim=-1)
        return of_value, None, of_references, of_offsets, of_weights


def _call(
    name: str,
    inputs: Sequence[Tensor | None],
    tensor: Tensor,
    gradients: Sequence[Tensor | None] = (),
) -> None:
    """Call a function of the library, by the type of the first tensor."""
    value, shapes, references, offsets, _ = inputs
    n, pixels, heads, channels = value.shape
    sizes = _Sizes(
        *(n, pixels, heads, channels, offsets.shape[1], len(shapes)),
        offsets.shape[4],
        0 if references is None else references.shape[3],
        torch.get_num_threads(),
    )
    arguments = [_pointers(inputs), ctypes.c_void_p(tensor.data_ptr())]
    if gradients:
        arguments.append(_pointers(gradients))
    function = getattr(library(), f'{name}_{str(value.dtype)[6:]}')
    function(*arguments, ctypes.byref(sizes))


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array:
    """A struct of pointers, null where there is no tensor."""
    return (ctypes.c_void_p * len(tensors))(
        *(None if each is None else each.data_ptr() for each in tensors)
    )
