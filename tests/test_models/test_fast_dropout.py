"""Dropout by a hash, and where it takes the place of PyTorch's."""

import copy
import io
import math

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.checkpoint import checkpoint

from gslora_mm.models import build_stock_model, compiled, fast_dropout
from gslora_mm.models.fast_dropout import (
    VARIABLE,
    compiled_dropout,
    use_fast_dropout,
)
from gslora_mm.utils import ConfigError
from tests.detectors import tiny_detector_config

MANY = 1 << 20
types = pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.bfloat16]
)


def dropped(seed, p=0.1, size=MANY):
    """Which of many elements are, as 0 and 1."""
    torch.manual_seed(seed)
    return (compiled_dropout(torch.ones(size), p) == 0).double()


def deviations(found, other, p):
    """How far two draws are from independent, in standard deviations."""
    product = ((found - p) * (other - p)).mean()
    return float(product / (p * (1 - p)) * math.sqrt(len(found)))


@pytest.fixture
def calls(monkeypatch):
    """Counts what is asked of ours; nn.Dropout is PyTorch's."""
    calls = []

    def counted(x, p):
        calls.append(p)
        return compiled_dropout(x, p)

    stock = getattr(nn.Dropout.forward, 'stock', nn.Dropout.forward)
    monkeypatch.setattr(nn.Dropout, 'forward', stock)
    monkeypatch.setattr(fast_dropout, 'compiled_dropout', counted)
    monkeypatch.delenv(VARIABLE, raising=False)
    return calls


@types
def test_it_drops_some_and_scales_the_others(dtype):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 700, dtype=dtype)
    y = compiled_dropout(x, 0.25)
    assert y.dtype == dtype and y.shape == x.shape
    kept = y != 0
    assert 0.7 < kept.double().mean() < 0.8
    expected = (x.double() / 0.75).to(dtype)
    torch.testing.assert_close(y[kept], expected[kept], rtol=1e-6, atol=0)


def test_bfloat16_is_rounded_as_pytorch_rounds():
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16)
    x = bits.view(torch.bfloat16)
    torch.manual_seed(0)
    y = compiled_dropout(x, 0.3)
    torch.manual_seed(0)
    wide = compiled_dropout(x.float(), 0.3)
    # Infinity times 0 is not a number, as in PyTorch.
    torch.testing.assert_close(
        y, wide.bfloat16(), rtol=0, atol=0, equal_nan=True
    )
    assert torch.equal(torch.signbit(y[wide == 0]), x[wide == 0].signbit())


@types
def test_the_gradient_has_the_same_mask(dtype):
    torch.manual_seed(0)
    x = torch.ones(2, 3, 5000, dtype=dtype, requires_grad=True)
    y = compiled_dropout(x, 0.4)
    # Not contiguous in memory: the mask goes by the index.
    grad = torch.ones(5000, 3, 2, dtype=dtype).permute(2, 1, 0)
    y.backward(grad)
    assert torch.equal(x.grad, y.detach())


def test_it_passes_a_gradcheck():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def drop(x):
        torch.manual_seed(0)
        return compiled_dropout(x, 0.5)

    torch.autograd.gradcheck(drop, x)
    torch.autograd.gradgradcheck(drop, x)


def test_memory_order_changes_nothing():
    x = torch.randn(70, 90)
    torch.manual_seed(0)
    expected = compiled_dropout(x, 0.5)
    for other in (x.t().contiguous().t(), torch.stack([x, x], 2)[..., 0]):
        assert not other.is_contiguous()
        torch.manual_seed(0)
        assert torch.equal(compiled_dropout(other, 0.5), expected)


@pytest.mark.parametrize('p', [0.1, 0.5, 0.9])
def test_draws_are_independent(p):
    first = dropped(0, p)
    deviation = math.sqrt(p * (1 - p) / len(first))
    assert abs(float(first.mean()) - p) < 4 * deviation
    # Of neighbours, of rows, and of what the hash takes at a time.
    for lag in (1, 2, 3, 4, 8, 16, 64, 256, 1024, 4095, 4096, 4097):
        assert abs(deviations(first[lag:], first[:-lag], p)) < 4
    # Of other seeds, and of what is drawn next.
    for seed in (1, 2, 3, 256, 1 << 20, 1 << 31):
        assert abs(deviations(first, dropped(seed, p), p)) < 4
    torch.manual_seed(0)
    masks = [compiled_dropout(torch.ones(MANY), p) == 0 for _ in range(5)]
    assert torch.equal(masks[0].double(), first)
    for mask in masks[1:]:
        assert abs(deviations(first, mask.double(), p)) < 4


def test_counts_spread_as_they_should():
    p, rows = 0.1, 1024
    grid = dropped(0, p).view(rows, -1)
    for dim in (0, 1):
        counts = grid.sum(dim)
        spread = float(counts.var() / (grid.shape[dim] * p * (1 - p)))
        assert abs(spread - 1) < 5 * math.sqrt(2 / len(counts))


def test_a_thread_more_changes_nothing():
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(dropped(0))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_a_call_takes_one_number_of_the_generator():
    states = []
    for size in (1, MANY):
        torch.manual_seed(3)
        compiled_dropout(torch.ones(size), 0.5)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    torch.set_rng_state(states[0])
    again = [compiled_dropout(torch.ones(99), 0.5) for _ in range(2)]
    torch.set_rng_state(states[0])
    assert torch.equal(compiled_dropout(torch.ones(99), 0.5), again[0])
    assert not torch.equal(*again)


def test_a_model_that_is_built_drops_in_cpp(calls):
    init_default_scope('mmdet')
    drop = nn.Dropout(0.1)
    drop(torch.ones(9))
    assert not calls
    build_stock_model(tiny_detector_config('deformable_detr'))
    build_stock_model(tiny_detector_config('deformable_detr'))
    drop(torch.ones(9))
    assert calls == [0.1]


def test_what_is_exact_stays_pytorchs(calls):
    use_fast_dropout()
    x = torch.randn(8)
    assert nn.Dropout(0.5).eval()(x) is x
    assert torch.equal(nn.Dropout(0.0)(x), x)
    assert torch.equal(nn.Dropout(1.0)(x), 0 * x)
    assert nn.Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)
    ones = torch.ones(4000)
    assert nn.Dropout(0.5, inplace=True)(ones) is ones and 0 in ones
    nn.Dropout(0.5)(x.half())
    nn.Dropout(0.5)(torch.ones(3, device='meta'))
    assert not calls


def test_modules_copy_and_save_what_they_did(calls):
    stock = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    before = io.BytesIO()
    torch.save(stock, before)
    use_fast_dropout()
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    model.load_state_dict(stock.state_dict())
    after = io.BytesIO()
    torch.save(model, after)
    assert after.getvalue() == before.getvalue()
    after.seek(0)
    loaded = torch.load(after, weights_only=False)
    for each in (copy.deepcopy(model), loaded):
        assert each[1].__dict__.keys() == stock[1].__dict__.keys()
        each(torch.ones(2, 3))
    assert calls == [0.5, 0.5]


def test_what_traces_sees_pytorchs(calls):
    use_fast_dropout()
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    x = torch.ones(2, 3)
    torch.compile(model, backend='eager', fullgraph=True)(x)
    torch.jit.trace(model, x, check_trace=False)
    torch.vmap(model, randomness='different')(x)
    torch.func.grad(lambda x: model(x).sum())(x)
    assert not calls
    model(x)
    assert calls == [0.5]


def test_what_is_computed_again_is_dropped_again(calls):
    use_fast_dropout()
    x = torch.ones(999, requires_grad=True)
    y = checkpoint(nn.Dropout(0.5), x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach()) and calls


def test_without_a_compiler_pytorch_drops(calls, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    compiled.library.cache_clear()
    try:
        use_fast_dropout()
        torch.manual_seed(0)
        drop = nn.Dropout(0.5)
        found = drop(torch.ones(99))
        drop(torch.ones(99))
        assert calls == [0.5]  # it is not tried again
        torch.manual_seed(0)
        assert torch.equal(found, nn.functional.dropout(torch.ones(99)))
        monkeypatch.setenv(VARIABLE, 'compiled')
        with pytest.raises(ConfigError, match="no-such-compiler.*'pytorch'"):
            use_fast_dropout()
    finally:
        compiled.library.cache_clear()


def test_the_variable_brings_pytorchs_back(calls, monkeypatch):
    for choice in ('compiled', 'pytorch', 'auto'):
        monkeypatch.setenv(VARIABLE, choice)
        use_fast_dropout()
        nn.Dropout(0.5)(torch.ones(3))
    assert len(calls) == 2
    monkeypatch.setenv(VARIABLE, 'fast')
    with pytest.raises(ConfigError, match="'fast'.*must be one of"):
        use_fast_dropout()
