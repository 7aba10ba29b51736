import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention, multi_scale_deform_attn
from mmengine.registry import init_default_scope

from gslora_mm.models import build_stock_model
from gslora_mm.models.deformable_attention import (
    VARIABLE,
    deformable_attention,
    mmcv_fallback,
    use_fast_attention,
)
from gslora_mm.utils import ConfigError
from tests.detectors import tiny_detector_config

FALLBACK = 'multi_scale_deformable_attn_pytorch'
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


def test_equals_mmcv_in_float32():
    inputs = samples(queries=200, channels=32)
    found = run(deformable_attention, inputs)
    expected = run(stock, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) <= 1e-6


def test_equals_mmcv_in_float64_on_pixels_and_edges_as_well():
    inputs = samples(dtype=torch.float64)
    found = run(deformable_attention, inputs)
    expected = run(stock, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) <= 1e-12


def test_gradients():
    value, shapes, locations, weights = samples(
        n=1, queries=3, heads=2, channels=3, points=2, dtype=torch.float64
    )
    # Between pixels, where there is a gradient.
    locations += 0.003
    leaves = [t.requires_grad_() for t in (value, locations, weights)]
    assert torch.autograd.gradcheck(
        lambda v, x, w: deformable_attention(v, shapes, x, w), leaves
    )


@pytest.mark.parametrize('axis', [0, 1])
def test_beyond_its_edge_pixels_a_map_is_zero(axis):
    value, size = torch.ones(1, 6, 1, 1), [2, 3] if axis == 0 else [3, 2]
    places = torch.tensor([0.5, 0.0, 1.0, -1 / 6, 7 / 6, -0.2, -1e30, 9e9])
    locations = torch.full((1, len(places), 1, 1, 1, 2), 0.5)
    locations[0, :, 0, 0, 0, axis] = places
    weights = torch.ones(1, len(places), 1, 1, 1)
    inputs = value, torch.tensor([size]), locations, weights
    output, _, of_locations, of_weights = run(
        deformable_attention, inputs, torch.ones(())
    )
    expected = torch.tensor([1, 0.5, 0.5, *[0.0] * 5])
    torch.testing.assert_close(output.flatten(), expected)
    torch.testing.assert_close(of_weights.flatten(), expected)
    slopes = of_locations[0, :, 0, 0, 0, axis]
    torch.testing.assert_close(slopes[:3], torch.tensor([0.0, 3.0, -3.0]))
    assert not slopes[5:].any()


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_location_that_is_no_number_is_seen(bad):
    value, shapes, locations, weights = samples()
    locations[0, 1, 2, 0, 0] = bad
    found = run(deformable_attention, (value, shapes, locations, weights))
    seen = found[0].isnan().unflatten(2, (3, 4)).any(-1)
    assert seen.nonzero().tolist() == [[0, 1, 2]]


@pytest.mark.parametrize('needed', [(0,), (1,), (2,), (1, 2)])
def test_only_gradients_that_are_needed(needed):
    value, shapes, locations, weights = samples()
    expected = run(deformable_attention, (value, shapes, locations, weights))
    leaves = [
        tensor.requires_grad_(i in needed)
        for i, tensor in enumerate((value, locations, weights))
    ]
    grad = torch.randn(
        expected[0].shape, generator=torch.Generator().manual_seed(1)
    )
    deformable_attention(value, shapes, *leaves[1:]).backward(grad)
    for leaf, gradient in zip(leaves, expected[1:], strict=True):
        assert leaf.grad is None or torch.equal(leaf.grad, gradient)
    assert [i for i in range(3) if leaves[i].grad is not None] == [*needed]


def test_repeated_runs_are_equal_bit_for_bit():
    first, second = (run(deformable_attention, samples()) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize('autocast', [False, True])
def test_low_precision_gives_what_mmcv_gives(autocast):
    value, shapes, locations, weights = samples()
    value = value.bfloat16()
    if not autocast:
        locations, weights = locations.bfloat16(), weights.bfloat16()
    inputs = value, shapes, locations, weights
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        found = run(deformable_attention, inputs)
        expected = run(stock, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
    # A location's gradient jumps at pixels, where bfloat16 puts many.
    for i in (0, 1, 3):
        assert distance(found[i].float(), expected[i].float()) < 0.05


def attend(channels=16):
    """mmcv's layer with weights and inputs of its own."""
    torch.manual_seed(0)
    width = 3 * channels
    layer = MultiScaleDeformableAttention(
        embed_dims=width, num_heads=3, num_levels=3, batch_first=True
    ).eval()
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    pixels = int(SHAPES.prod(1).sum())
    return layer(
        torch.randn(2, 5, width),
        value=torch.randn(2, pixels, width),
        reference_points=torch.rand(2, 5, 3, 2),
        spatial_shapes=SHAPES,
    )


@pytest.fixture
def calls(monkeypatch):
    """Counts what either of the two was asked for."""
    calls = []

    def counted(name, function):
        def call(*args):
            calls.append(name)
            return function(*args)

        return call

    monkeypatch.setattr(
        multi_scale_deform_attn, FALLBACK, counted('mmcv', stock)
    )
    monkeypatch.setattr(
        'gslora_mm.models.deformable_attention.deformable_attention',
        counted('rows', deformable_attention),
    )
    return calls


def test_mmcv_attends_so_once_a_model_is_built_if_heads_are_wide(calls):
    init_default_scope('mmdet')
    before = attend()
    build_stock_model(tiny_detector_config('deformable_detr'))
    after = attend()
    build_stock_model(tiny_detector_config('deformable_detr'))
    again = attend()
    attend(channels=8)
    assert calls == ['mmcv', 'rows', 'rows', 'mmcv']
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)
    assert torch.equal(after, again)


def test_the_variable_brings_mmcv_back(calls, monkeypatch):
    use_fast_attention()
    monkeypatch.setenv(VARIABLE, 'mmcv')
    use_fast_attention()
    attend()
    monkeypatch.setenv(VARIABLE, 'rows')
    use_fast_attention()
    attend()
    assert calls == ['mmcv', 'rows']
    monkeypatch.setenv(VARIABLE, 'fast')
    with pytest.raises(ConfigError, match="'fast'.*must be 'rows' or 'mmcv'"):
        use_fast_attention()


def test_other_devices_keep_what_mmcv_has(calls):
    use_fast_attention()
    inputs = [tensor.to('meta') for tensor in samples(channels=32)]
    with pytest.raises(Exception, match='meta'):
        getattr(multi_scale_deform_attn, FALLBACK)(*inputs)
    assert calls == ['mmcv']
