"""Both ways to compute what mmcv computes."""

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention, multi_scale_deform_attn

from gslora_mm.models.compiled_attention import (
    compiled_attention,
    compiled_layer,
)
from gslora_mm.models.deformable_attention import deformable_attention
from gslora_mm.models.fast_attention import _stock, mmcv_fallback

both = pytest.mark.parametrize(
    'attention', [deformable_attention, compiled_attention]
)
stock = mmcv_fallback(multi_scale_deform_attn)

SHAPES = torch.tensor([[5, 7], [3, 4], [1, 2]])


def samples(n=2, queries=6, heads=3, channels=4, points=5, dtype=None):
    """Locations all over the maps and around, one in four on a pixel."""
    generator = torch.Generator().manual_seed(0)
    levels, pixels = len(SHAPES), int(SHAPES.prod(1).sum())

    def draw(function, *shape):
        return function(*shape, generator=generator, dtype=dtype)

    value = draw(torch.randn, n, pixels, heads, channels)
    shape = (n, queries, heads, levels, points)
    locations = 1.6 * draw(torch.rand, *shape, 2) - 0.3
    size = SHAPES.flip(1).to(locations)[:, None]
    on_pixel = ((locations * size).round() + 0.5) / size
    exact = draw(torch.rand, *shape, 1) < 0.25
    locations = torch.where(exact, on_pixel, locations)
    weights = draw(torch.rand, *shape)
    return value, SHAPES, locations, weights


def run(function, inputs, grad=None):
    """Its output and the gradients of value, locations and weights."""
    value, shapes, *rest = inputs
    leaves = [t.detach().requires_grad_() for t in (value, *rest)]
    output = function(leaves[0], shapes, *leaves[1:])
    if grad is None:
        grad = torch.randn(
            output.shape, generator=torch.Generator().manual_seed(1)
        )
    output.backward(grad.to(output).expand_as(output))
    return output.detach(), *(leaf.grad for leaf in leaves)


def distance(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@both
def test_equals_mmcv_in_float32(attention):
    inputs = samples(queries=200, channels=32)
    found = run(attention, inputs)
    expected = run(stock, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) <= 1e-6


@both
def test_equals_mmcv_in_float64_on_pixels_and_edges_as_well(attention):
    inputs = samples(dtype=torch.float64)
    found = run(attention, inputs)
    expected = run(stock, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) <= 1e-12


@both
def test_gradients(attention):
    value, shapes, locations, weights = samples(
        n=1, queries=3, heads=2, channels=3, points=2, dtype=torch.float64
    )
    # Between pixels, where there is a gradient.
    locations += 0.003
    leaves = [t.requires_grad_() for t in (value, locations, weights)]
    assert torch.autograd.gradcheck(
        lambda v, x, w: attention(v, shapes, x, w), leaves
    )


@both
@pytest.mark.parametrize('axis', [0, 1])
def test_beyond_its_edge_pixels_a_map_is_zero(attention, axis):
    value, size = torch.ones(1, 6, 1, 1), [2, 3] if axis == 0 else [3, 2]
    places = torch.tensor([0.5, 0.0, 1.0, -1 / 6, 7 / 6, -0.2, -1e30, 9e9])
    locations = torch.full((1, len(places), 1, 1, 1, 2), 0.5)
    locations[0, :, 0, 0, 0, axis] = places
    weights = torch.ones(1, len(places), 1, 1, 1)
    inputs = value, torch.tensor([size]), locations, weights
    output, _, of_locations, of_weights = run(
        attention, inputs, torch.ones(())
    )
    expected = torch.tensor([1, 0.5, 0.5, *[0.0] * 5])
    torch.testing.assert_close(output.flatten(), expected)
    torch.testing.assert_close(of_weights.flatten(), expected)
    slopes = of_locations[0, :, 0, 0, 0, axis]
    torch.testing.assert_close(slopes[:3], torch.tensor([0.0, 3.0, -3.0]))
    assert not slopes[5:].any()


@both
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_location_that_is_no_number_is_seen(attention, bad):
    value, shapes, locations, weights = samples()
    locations[0, 1, 2, 0, 0] = bad
    found = run(attention, (value, shapes, locations, weights))
    seen = found[0].isnan().unflatten(2, (3, 4)).any(-1)
    assert seen.nonzero().tolist() == [[0, 1, 2]]


@both
@pytest.mark.parametrize('needed', [(0,), (1,), (2,), (1, 2)])
def test_only_gradients_that_are_needed(attention, needed):
    value, shapes, locations, weights = samples()
    expected = run(attention, (value, shapes, locations, weights))
    leaves = [
        tensor.requires_grad_(i in needed)
        for i, tensor in enumerate((value, locations, weights))
    ]
    grad = torch.randn(
        expected[0].shape, generator=torch.Generator().manual_seed(1)
    )
    attention(value, shapes, *leaves[1:]).backward(grad)
    for leaf, gradient in zip(leaves, expected[1:], strict=True):
        assert leaf.grad is None or torch.equal(leaf.grad, gradient)
    assert [i for i in range(3) if leaves[i].grad is not None] == [*needed]


@both
def test_repeated_runs_are_equal_bit_for_bit(attention):
    first, second = (run(attention, samples()) for _ in range(2))
    assert all(map(torch.equal, first, second))


@both
@pytest.mark.parametrize('autocast', [False, True])
def test_low_precision_gives_what_mmcv_gives(attention, autocast):
    value, shapes, locations, weights = samples()
    value = value.bfloat16()
    if not autocast:
        locations, weights = locations.bfloat16(), weights.bfloat16()
    inputs = value, shapes, locations, weights
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        found = run(attention, inputs)
        expected = run(stock, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
    # A location's gradient jumps at pixels, where bfloat16 puts many.
    for i in (0, 1, 3):
        assert distance(found[i].float(), expected[i].float()) < 0.05


def test_a_thread_more_changes_nothing():
    inputs = samples(queries=50)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(run(compiled_attention, inputs))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize('batch_first', [True, False])
@pytest.mark.parametrize('coordinates', [2, 4])
@pytest.mark.parametrize('channels', [8, 4])
def test_the_layer_equals_that_of_mmcv(batch_first, coordinates, channels):
    torch.manual_seed(0)
    width, exact = 3 * channels, torch.float64
    layer = MultiScaleDeformableAttention(
        width, 3, num_levels=3, batch_first=batch_first, dropout=0.0
    ).to(exact)
    for projection in (layer.sampling_offsets, layer.attention_weights):
        torch.nn.init.normal_(projection.weight)
    pixels = int(SHAPES.prod(1).sum())
    query, place = torch.randn(2, 2, 6, width, dtype=exact)
    value = torch.randn(2, pixels, width, dtype=exact)
    inputs = dict(query=query, value=value, query_pos=place, identity=-query)
    if not batch_first:
        inputs = {name: x.transpose(0, 1) for name, x in inputs.items()}
    # Of boxes, some are small and some beyond the edge.
    points = torch.rand(2, 6, 3, coordinates, dtype=exact)
    inputs['reference_points'] = 1.4 * points - 0.2
    mask = torch.rand(2, pixels) < 0.2

    found = []
    for forward in (compiled_layer, _stock(type(layer).forward)):
        leaves = {n: x.detach().requires_grad_() for n, x in inputs.items()}
        layer.zero_grad()
        output = forward(
            layer, **leaves, key_padding_mask=mask, spatial_shapes=SHAPES
        )
        output.sin().sum().backward()
        leaves = [*leaves.values(), *layer.parameters()]
        gradients = [leaf.grad.clone() for leaf in leaves]
        found.append([output.detach(), *gradients])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert distance(ours, theirs) < 1e-12


def test_the_layer_under_autocast_equals_that_in_float32():
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(
        24, 3, num_levels=3, batch_first=True, dropout=0.0
    )
    torch.nn.init.normal_(layer.attention_weights.weight)
    pixels = int(SHAPES.prod(1).sum())
    query, value = torch.randn(2, 6, 24), torch.randn(2, pixels, 24)
    points = torch.rand(2, 6, 3, 2)
    found = []
    for forward in (compiled_layer, _stock(type(layer).forward)):
        for autocast in (True, False):
            leaves = [
                x.clone().requires_grad_() for x in (query, value, points)
            ]
            with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
                output = forward(
                    layer,
                    leaves[0],
                    value=leaves[1],
                    identity=None,
                    query_pos=None,
                    key_padding_mask=None,
                    reference_points=leaves[2],
                    spatial_shapes=SHAPES,
                )
            output.sin().sum().backward()
            found.append([output.detach(), *(leaf.grad for leaf in leaves)])
    ours, exact, mmcv, _ = found
    for i in range(4):
        assert ours[i].dtype == mmcv[i].dtype
        error = distance(ours[i], exact[i])
        assert 0 < error < 0.03
        # As mmcv's is under autocast, about.
        assert error < 2 * distance(mmcv[i], exact[i])
