"""Multi-scale deformable attention on a CPU, faster than mmcv's.

Deformable DETR (https://arxiv.org/abs/2010.04159), equation 3: a query is
the weighted sum of values read at a few points of each level's map, between
four pixels each. mmcv has kernels for GPUs; on a CPU it reads every channel
of a point on its own (``grid_sample``) and keeps all that it has read for
the backward pass. Here a value is a row of its channels, so that a query is
a weighted sum of rows (``embedding_bag``), a weight's gradient the product
of two rows (``sampled_addmm``), and the gradient of the values a weighted
sum of rows again, once the points are sorted by pixel. Nothing is kept but
the points. ``docs/en/speed.md`` has figures.
"""

import functools
import itertools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import embedding_bag, pad


def deformable_attention(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum what is read around every query; arguments as mmcv's fallback.

    Args:
        value (Tensor): All maps, one after another, row by row, of shape
            (n, pixels, heads, channels).
        shapes (Tensor): Height and width of the levels' maps, (levels, 2).
        locations (Tensor): Where to read, of shape (n, queries, heads,
            levels, points, 2), x before y: 0 is the left or upper edge of a
            map, 1 the other one. Beyond its edge pixels a map is zero.
        weights (Tensor): Of these points, (n, queries, heads, levels,
            points).

    Returns:
        Tensor: Of shape (n, queries, heads * channels). It is computed in
        float32 or better.
    """
    return in_float32(
        _DeformableAttention.apply, value, shapes, locations, weights
    )


def in_float32(
    function: Callable[..., Tensor], *tensors: Tensor | None
) -> Tensor:
    """Call a function of tensors in float32 or better.

    Integers stay what they are, and the result has the type that PyTorch
    gives a product of the others.
    """
    floats = [t is not None and t.is_floating_point() for t in tensors]
    dtypes = [t.dtype for t in itertools.compress(tensors, floats)]
    dtype = functools.reduce(torch.promote_types, dtypes)
    exact = torch.promote_types(dtype, torch.float32)
    tensors = (
        tensor.to(exact) if is_float else tensor
        for tensor, is_float in zip(tensors, floats, strict=True)
    )
    return function(*tensors).to(dtype)


class _DeformableAttention(torch.autograd.Function):
    """The function above, with the gradients that autograd would find.

    A map has a margin of one pixel of zeros, and one row of channels for each
    pixel; the maps of all images, heads and levels make one table of rows. A
    bag is one head of one query of one image, and its samples are ``levels *
    points`` places, each in a cell between four pixels.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        value: Tensor,
        shapes: Tensor,
        locations: Tensor,
        weights: Tensor,
    ) -> Tensor:
        n, _, heads, levels, points, _ = locations.shape
        ctx.sizes = shapes.tolist()
        rows = _add_margins(value.transpose(1, 2).flatten(0, 1), ctx.sizes)
        # Width and height of the map of each sample, (2, samples).
        extent = shapes.int().T.flip(0).repeat_interleave(points, dim=1)
        cells, shift, inside = _find_cells(locations, extent, len(rows))
        weights = weights.transpose(1, 2).reshape(inside.shape) * inside
        rows = rows.flatten(0, 1)
        ctx.save_for_backward(rows, cells, shift, weights, inside, extent)
        ctx.unflatten = (n, heads, -1), (levels, points)
        shares = torch.stack(_shares(*shift), dim=1)
        output = embedding_bag(
            _pixels(cells, extent).flatten(1),
            rows,
            mode='sum',
            per_sample_weights=shares.mul_(weights[:, None]).flatten(1),
        )
        return output.unflatten(0, (n, heads, -1)).transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, cells, shift, weights, inside, extent = ctx.saved_tensors
        bags, samples = ctx.unflatten
        grad = grad.unflatten(2, (bags[1], -1)).transpose(1, 2)
        grad = grad.flatten(0, 2).contiguous()
        of_value = of_locations = of_weights = None
        if any(ctx.needs_input_grad[2:]):
            slopes, read = _slopes(grad, rows, _pixels(cells, extent), shift)
            slopes *= extent.T
            of_locations, of_weights = (
                tensor.unflatten(1, samples).unflatten(0, bags).transpose(1, 2)
                for tensor in (slopes * weights[..., None], read * inside)
            )
        if ctx.needs_input_grad[0]:
            parts = _sums_by_cell(grad, len(rows), cells, shift, weights)
            of_value = _gather_pixels(parts, bags[0] * bags[1], ctx.sizes)
            of_value = of_value.unflatten(0, bags[:2]).transpose(1, 2)
        return of_value, None, of_locations, of_weights


def _add_margins(maps: Tensor, sizes: list[list[int]]) -> Tensor:
    """Maps (maps, pixels, channels) of all levels, each with its margin."""
    levels = maps.split([height * width for height, width in sizes], dim=1)
    padded = [
        pad(level.unflatten(1, size), (0, 0, 1, 1, 1, 1)).flatten(1, 2)
        for level, size in zip(levels, sizes, strict=True)
    ]
    return torch.cat(padded, dim=1)


def _find_cells(
    locations: Tensor, extent: Tensor, maps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the samples are.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Row of the upper left pixel of each
        cell (bags, samples); position in it, x and y in [0, 1), (2, bags,
        samples); and whether the sample touches its map.
    """
    levels, points = locations.shape[3:5]
    # In the order of grid_sample, a fused multiply and add included, so that
    # it rounds alike.
    grid = (2 * locations - 1).permute(5, 0, 2, 1, 3, 4)
    grid = grid.flatten(1, 3).flatten(2).add_(1)
    extent = extent[:, None]
    half = extent.to(grid.dtype) / 2
    grid = torch.addcmul(grid.new_tensor(-0.5), grid, half)
    inside = (grid >= -1) & (grid < extent)
    corner = grid.floor()
    shift = grid.sub_(corner)
    # Of a location that is not finite, the shift is NaN: it will be seen.
    corner = corner.int().clamp_(extent.new_tensor(-1), extent - 1)
    width, height = extent[:, 0] + 2
    areas = (width * height)[::points]
    starts = areas.cumsum(0, dtype=torch.int32) - areas
    first = starts.repeat_interleave(points) + width + 1
    cells = corner[1].mul_(width).add_(corner[0]).add_(first)
    map_starts = torch.arange(maps, dtype=torch.int32) * areas.sum().int()
    cells.view(maps, -1).add_(map_starts[:, None])
    return cells, shift, inside[0] & inside[1]


def _pixels(cells: Tensor, extent: Tensor) -> Tensor:
    """Rows of the four pixels of each cell, (bags, 4, samples)."""
    down = extent[0] + 2
    right = torch.ones_like(down)
    offsets = torch.stack([0 * down, right, down, down + right])
    return cells[:, None] + offsets


def _shares(right: Tensor, down: Tensor) -> tuple[Tensor, ...]:
    """How much each of these pixels counts, by the position in the cell."""
    left, up = 1 - right, 1 - down
    return left * up, right * up, left * down, right * down


def _slopes(
    grad: Tensor, rows: Tensor, pixels: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """What is read, times the bag's gradient, and how it changes in x, y.

    Returns:
        tuple[Tensor, Tensor]: (bags, samples, 2) and (bags, samples).
    """
    size = pixels[0].numel()
    bounds = torch.arange(0, pixels.numel() + 1, size, dtype=pixels.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # sparse tensors are "in beta"
        pattern = torch.sparse_csr_tensor(
            bounds,
            pixels.view(-1),
            grad.new_zeros(pixels.numel()),
            (len(grad), len(rows)),
            check_invariants=False,
        )
    products = torch.sparse.sampled_addmm(pattern, grad, rows.T)
    products = products.values().view(pixels.shape)
    upper_left, upper_right, lower_left, lower_right = products.unbind(dim=1)
    right, down = shift
    x_slope = torch.lerp(
        upper_right - upper_left, lower_right - lower_left, down
    )
    upper = torch.lerp(upper_left, upper_right, right)
    y_slope = torch.lerp(lower_left, lower_right, right).sub_(upper)
    read = torch.addcmul(upper, y_slope, down)
    return torch.stack([x_slope, y_slope], dim=-1), read


def _sums_by_cell(
    grad: Tensor,
    cells_in_all: int,
    cells: Tensor,
    shift: Tensor,
    weights: Tensor,
) -> list[Tensor]:
    """What each cell adds to its four pixels, each (cells, channels).

    Adding row by row where a sample points to would take turns between
    threads; sorted by cell, it is a weighted sum of bags' gradients.
    """
    ordered, order = cells.view(-1).sort(stable=True)
    bounds = torch.arange(cells_in_all + 1, dtype=cells.dtype)
    bounds = torch.searchsorted(ordered, bounds)
    bags = torch.arange(len(cells)).repeat_interleave(cells.shape[1])
    bags, weights, right, down = (
        tensor.flatten().index_select(0, order)
        for tensor in (bags, weights, *shift)
    )
    return [
        embedding_bag(
            bags,
            grad,
            bounds,
            mode='sum',
            per_sample_weights=share.mul_(weights),
            include_last_offset=True,
        )
        for share in _shares(right, down)
    ]


def _gather_pixels(
    parts: list[Tensor], maps: int, sizes: list[list[int]]
) -> Tensor:
    """Sum of what cells add to a pixel, without margins, as the maps were."""
    padded = [(height + 2) * (width + 2) for height, width in sizes]
    levels = zip(
        *(
            part.unflatten(0, (maps, -1)).split(padded, dim=1)
            for part in parts
        ),
        strict=True,
    )
    sums = []
    for (height, width), level in zip(sizes, levels, strict=True):
        upper_left, upper_right, lower_left, lower_right = (
            part.unflatten(1, (height + 2, width + 2)) for part in level
        )
        # It is the upper left one of its own cell.
        total = upper_left[:, 1:-1, 1:-1] + upper_right[:, 1:-1, :-2]
        total += lower_left[:, :-2, 1:-1]
        total += lower_right[:, :-2, :-2]
        sums.append(total.flatten(1, 2))
    return torch.cat(sums, dim=1)
