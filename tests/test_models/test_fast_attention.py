"""Which of the ways runs in mmcv's layer."""

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention, multi_scale_deform_attn
from mmengine.registry import init_default_scope

from gslora_mm.models import (
    build_stock_model,
    compiled,
    fast_attention,
)
from gslora_mm.models.fast_attention import (
    VARIABLE,
    mmcv_fallback,
    use_fast_attention,
)
from gslora_mm.utils import ConfigError
from tests.detectors import tiny_detector_config

FALLBACK = 'multi_scale_deformable_attn_pytorch'
SHAPES = torch.tensor([[5, 7], [3, 4], [1, 2]])


def attend(channels=16, device='cpu', autocast=False):
    """mmcv's layer with weights and inputs of its own."""
    torch.manual_seed(0)
    width = 3 * channels
    layer = MultiScaleDeformableAttention(
        embed_dims=width, num_heads=3, num_levels=3, batch_first=True
    ).eval()
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    pixels = int(SHAPES.prod(1).sum())
    inputs = dict(
        value=torch.randn(2, pixels, width),
        reference_points=torch.rand(2, 5, 3, 2),
        spatial_shapes=SHAPES,
    )
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        return layer(torch.randn(2, 5, width), **inputs)


@pytest.fixture
def calls(monkeypatch):
    """Counts which of the ways was asked; mmcv's layer is as it was."""
    calls = []
    layer = MultiScaleDeformableAttention

    def counted(name, function):
        def call(*args, **kwargs):
            calls.append(name)
            return function(*args, **kwargs)

        return call

    stock = mmcv_fallback(multi_scale_deform_attn)
    monkeypatch.setattr(
        layer, 'forward', getattr(layer.forward, 'stock', layer.forward)
    )
    monkeypatch.setattr(
        multi_scale_deform_attn, FALLBACK, counted('mmcv', stock)
    )
    for name, function in (
        ('rows', 'deformable_attention'),
        ('compiled', 'compiled_layer'),
    ):
        ours = getattr(fast_attention, function)
        monkeypatch.setattr(fast_attention, function, counted(name, ours))
    monkeypatch.delenv(VARIABLE, raising=False)
    return calls


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    compiled.library.cache_clear()
    yield
    compiled.library.cache_clear()


def test_a_model_that_is_built_attends_in_cpp(calls):
    init_default_scope('mmdet')
    before = attend()
    build_stock_model(tiny_detector_config('deformable_detr'))
    after = attend()
    build_stock_model(tiny_detector_config('deformable_detr'))
    again = attend()
    narrow = attend(channels=8)
    assert calls == ['mmcv', *['compiled'] * 3]
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)
    assert torch.equal(after, again)
    assert narrow.isfinite().all()


def test_so_does_mixed_precision(calls):
    stock = attend(autocast=True)
    use_fast_attention()
    found = attend(autocast=True)
    attend(channels=8, autocast=True)
    assert calls == ['mmcv', 'compiled', 'compiled']
    assert found.dtype == stock.dtype
    torch.testing.assert_close(found, stock, rtol=0.02, atol=0.02)


def test_without_a_compiler_it_attends_in_pytorch(calls, no_compiler):
    use_fast_attention()
    before, _ = attend(), attend(channels=8)
    assert calls == ['compiled', 'rows', 'mmcv']
    compiled.library.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('CXX')
        use_fast_attention()
        after = attend()
    assert calls[3:] == ['compiled']
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)


def test_what_is_asked_for_has_to_be_compiled(calls, no_compiler, monkeypatch):
    monkeypatch.setenv(VARIABLE, 'compiled')
    with pytest.raises(ConfigError, match='no-such-compiler.*CXX'):
        use_fast_attention()
    attend()
    assert calls == ['mmcv']


def test_what_a_compiler_says_is_the_reason(tmp_path, monkeypatch):
    broken = tmp_path / 'broken.cpp'
    broken.write_text('this is not C++')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(compiled, 'SOURCES', [broken])
    not_compiled = compiled.NotCompiledError
    with pytest.raises(not_compiled, match='error: .*this'):
        compiled.library.__wrapped__()
    assert not [*tmp_path.glob('gslora_mm/*')]


def test_it_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    compiled.library.__wrapped__()
    (file,) = (tmp_path / 'gslora_mm').iterdir()
    written = file.stat().st_mtime_ns
    compiled.library.__wrapped__()
    assert file.stat().st_mtime_ns == written


def test_the_variable_brings_the_others_back(calls, monkeypatch):
    for choice in ('compiled', 'mmcv', 'rows', 'auto'):
        monkeypatch.setenv(VARIABLE, choice)
        use_fast_attention()
        attend()
    assert calls == ['compiled', 'mmcv', 'rows', 'compiled']
    monkeypatch.setenv(VARIABLE, 'fast')
    with pytest.raises(ConfigError, match="'fast'.*must be one of"):
        use_fast_attention()


def test_other_devices_keep_what_mmcv_has(calls):
    use_fast_attention()
    with torch.device('meta'), pytest.raises(Exception, match='meta'):
        attend()
    assert not set(calls) & {'rows', 'compiled'}
