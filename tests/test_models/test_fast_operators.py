"""Attention whose inputs are rows in memory."""

import copy

import pytest
import torch
from torch import nn

from gslora_mm.models.fast_operators import use_fast_operators


@pytest.fixture
def stock(monkeypatch):
    """PyTorch's calls; what is replaced is put back afterwards."""
    for layer, name in (
        (nn.MultiheadAttention, '__call__'),
        (nn.Dropout, 'forward'),
    ):
        function = getattr(layer, name)
        function = getattr(function, 'stock', function)
        monkeypatch.setattr(layer, name, function)
    return nn.MultiheadAttention.__call__


def run(layer, autocast):
    """Output and gradients, for queries that stand in memory by image."""
    torch.manual_seed(1)
    x = torch.randn(2, 7, 8, requires_grad=True)
    query, value = (2 * x).transpose(0, 1), x.transpose(0, 1)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        output = layer(query=query, key=query, value=value)[0]
    output.float().square().sum().backward()
    return output.detach(), x.grad


@pytest.mark.parametrize('autocast', [False, True])
def test_rows_give_the_same(stock, autocast):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2).requires_grad_(False)
    expected = run(layer, autocast)
    use_fast_operators()
    found = run(copy.deepcopy(layer), autocast)
    tolerance = 0.02 if autocast else 0.0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance
        )


def test_a_frozen_weight_is_not_copied_for_each_query(stock):
    layer = nn.MultiheadAttention(8, 2).requires_grad_(False)

    def batched():
        with torch.profiler.profile(record_shapes=True) as found:
            run(layer, autocast=True)
        shapes = [event.input_shapes for event in found.events()]
        return [7, 8, 8] in (shape for each in shapes for shape in each)

    assert batched()
    for _ in range(2):  # once is enough, twice changes nothing
        use_fast_operators()
        assert not batched()
    assert nn.MultiheadAttention.__call__.stock is stock


def test_what_traces_sees_pytorchs(stock):
    use_fast_operators()
    layer = nn.MultiheadAttention(8, 2)
    compiled = torch.compile(layer, backend='eager', fullgraph=True)
    with torch.autocast('cpu', torch.bfloat16):
        x = torch.randn(3, 2, 8)
        assert compiled(x, x, x)[0].shape == x.shape


def test_what_is_scripted_is_pytorchs(stock):
    use_fast_operators()
    x = torch.ones(3, 2, 8)
    model = torch.jit.script(nn.Sequential(nn.Dropout(0.5)))
    torch.manual_seed(0)
    found = model(x)
    torch.manual_seed(0)
    assert torch.equal(found, nn.functional.dropout(x))
    layer = torch.jit.script(nn.MultiheadAttention(8, 2))
    assert layer(x, x, x)[0].shape == x.shape


def test_what_traces_modules_finds_one(stock):
    use_fast_operators()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)

        def forward(self, x):
            return self.attention(x, x, x)

    nodes = torch.fx.symbolic_trace(Model()).graph.nodes
    assert 'call_module' in [node.op for node in nodes]
