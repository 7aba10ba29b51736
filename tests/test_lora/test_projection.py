"""LoRAProjection: the weight in effect for modules that read it."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from gslora_mm.lora import LoRAProjection
from tests.test_lora.helpers import make_layer


def read(layer, x):
    """What torch's MultiheadAttention does with its out_proj."""
    return F.linear(x, layer.weight, layer.bias)


def test_projection_shows_the_weight_in_effect():
    layer = make_layer(LoRAProjection)
    x = torch.randn(5, 6)
    torch.testing.assert_close(read(layer, x), layer(x))
    read(layer, x).sum().backward()
    assert layer.lora_A.grad.any() and layer.lora_B.grad.any()

    assert isinstance(dict(layer.named_parameters())['weight'], nn.Parameter)
    assert torch.equal(layer.state_dict()['weight'], layer.stock_weight)
    layer.enabled = False
    assert torch.equal(layer.weight, layer.stock_weight)
    layer.enabled = True
    effective = layer.weight.detach().clone()
    layer.merge()
    torch.testing.assert_close(layer.weight.detach(), effective)
    twin = copy.deepcopy(layer)
    twin.unmerge()
    torch.testing.assert_close(twin.weight.detach(), effective)


def test_projection_drops_input_features_of_a_reader():
    layer = make_layer(LoRAProjection, dropout=0.5)
    kept = [(layer.weight - layer.stock_weight).detach() for _ in range(400)]
    full = layer.delta_weight().detach()
    for update in kept[:20]:
        ratio = update / full
        # a feature is dropped for all outputs at once, or doubled
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio), atol=1e-3)
        assert set(ratio[0].round().tolist()) <= {0.0, 2.0}
    mean = torch.stack(kept).mean(0)
    torch.testing.assert_close(mean, full, atol=0.3, rtol=0.3)
    layer.eval()
    torch.testing.assert_close(layer.weight - layer.stock_weight, full)
