"""LoRALinear: formula, gradients, merging, precision, state."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gslora_mm.lora import LoRALinear, LoRAProjection
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import make_layer


def expected(layer, x):
    update = layer.alpha / layer.rank * layer.lora_B @ layer.lora_A
    return x @ (layer.stock_weight + update).T + layer.bias


@pytest.mark.parametrize('cls', [LoRALinear, LoRAProjection])
@pytest.mark.parametrize('shape', [(6,), (5, 6), (2, 5, 6), (0, 6)])
def test_forward_is_the_formula(cls, shape):
    layer = make_layer(cls)
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), expected(layer, x))
    assert layer(x).shape == (*shape[:-1], 4)


def test_without_bias_and_not_contiguous():
    layer = LoRALinear.from_linear(nn.Linear(6, 4, bias=False), rank=2)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(6, 5).t()
    torch.testing.assert_close(
        layer(x), x @ (layer.weight + layer.delta_weight()).T
    )


def test_a_new_adapter_changes_nothing():
    linear = nn.Linear(6, 4)
    layer = LoRALinear.from_linear(linear, rank=3)
    x = torch.randn(2, 5, 6)
    assert torch.equal(layer(x), linear(x))
    assert not layer.lora_B.any()
    # Kaiming-uniform with a = sqrt(5): U(-1/sqrt(in), 1/sqrt(in))
    assert 0 < layer.lora_A.abs().max() <= 1 / math.sqrt(6)


def test_gradients_are_right_also_through_an_in_place_activation():
    layer = make_layer().double()
    x = torch.randn(2, 5, 6, dtype=torch.double, requires_grad=True)

    def ffn(x, lora_A, lora_B):
        out = torch.func.functional_call(
            layer, {'lora_A': lora_A, 'lora_B': lora_B}, (x,)
        )
        return F.relu_(out)

    assert torch.autograd.gradcheck(ffn, (x, layer.lora_A, layer.lora_B))


@pytest.mark.parametrize('thawed', [False, True])
def test_gradients_equal_those_of_the_formula(thawed):
    """Also those of weight and bias, for whoever trains them, too."""
    layer = make_layer().double()
    for parameter in (layer.weight, layer.bias):
        parameter.requires_grad_(thawed)
    x = torch.randn(2, 5, 6, dtype=torch.double, requires_grad=True)
    inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
    found = torch.autograd.grad(layer(x).square().sum(), inputs)
    wanted = torch.autograd.grad(expected(layer, x).square().sum(), inputs)
    assert len(inputs) == (5 if thawed else 3)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings('ignore:There is a performance drop')
def test_gradients_of_gradients_and_of_each_sample():
    layer = make_layer().double()
    x = torch.randn(3, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, (x,))

    def loss(lora_B, row):
        parameters = {'lora_B': lora_B}
        out = torch.func.functional_call(layer, parameters, (row[None],))
        return out.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    found = each(layer.lora_B.detach(), x.detach())
    for row, gradient in zip(x.detach(), found, strict=True):
        layer.zero_grad()
        layer(row[None]).square().sum().backward()
        torch.testing.assert_close(gradient, layer.lora_B.grad)


def test_without_gradients_nothing_is_kept():
    layer = make_layer()
    with torch.no_grad():
        assert not layer(torch.randn(3, 6)).requires_grad
    layer.requires_grad_(False)
    assert not layer(torch.randn(3, 6)).requires_grad


def test_only_the_adapter_is_trained():
    layer = make_layer()
    layer(torch.randn(5, 6)).sum().backward()
    trained = {n for n, p in layer.named_parameters() if p.requires_grad}
    assert trained == {'lora_A', 'lora_B'}
    assert layer.weight.grad is None and layer.bias.grad is None
    assert layer.lora_A.grad.any() and layer.lora_B.grad.any()


def test_is_a_linear_layer_that_owns_the_stock_parameters():
    linear = nn.Linear(6, 4)
    layer = LoRALinear.from_linear(linear, rank=2)
    assert isinstance(layer, nn.Linear)
    assert layer.weight is linear.weight and layer.bias is linear.bias
    assert list(linear.state_dict()) == ['weight', 'bias']
    missing, unexpected = layer.load_state_dict(
        nn.Linear(6, 4).state_dict(), strict=False
    )
    assert missing == ['lora_A', 'lora_B'] and not unexpected


def test_keeps_mode_and_hooks():
    linear = nn.Linear(6, 4).eval()
    seen = []
    handle = linear.register_forward_hook(lambda *_: seen.append(1))
    layer = LoRALinear.from_linear(linear, rank=2)
    layer(torch.zeros(1, 6))
    assert seen == [1] and not layer.training
    stock = layer.to_linear()
    stock(torch.zeros(1, 6))
    handle.remove()
    stock(torch.zeros(1, 6))
    assert seen == [1, 1]


def test_constructor():
    layer = LoRALinear(6, 4, rank=2, alpha=3.0, dtype=torch.double)
    assert layer.lora_A.shape == (2, 6) and layer.lora_B.shape == (4, 2)
    assert layer.lora_A.dtype == torch.double
    assert layer.scaling == 1.5
    assert 'rank=2, alpha=3.0' in repr(layer)
    assert LoRAProjection(6, 4, rank=2).weight.shape == (4, 6)


@pytest.mark.parametrize(
    'settings',
    [
        dict(rank=0),
        dict(rank=-1),
        dict(rank=2.0),
        dict(rank=True),
        dict(alpha=0),
        dict(alpha=-1.0),
        dict(alpha=math.nan),
        dict(alpha='1'),
        dict(dropout=1.0),
        dict(dropout=-0.1),
        dict(dropout=None),
    ],
)
def test_bad_settings(settings):
    ((key, value),) = settings.items()
    for make in (
        lambda: LoRALinear(6, 4, **settings),
        lambda: LoRALinear.from_linear(nn.Linear(6, 4), **settings),
    ):
        with pytest.raises(ConfigError, match=f'adapter.{key} = {value!r}'):
            make()


def test_rank_above_the_layer_warns_and_works():
    with pytest.warns(
        UserWarning, match='adapter.rank = 5 is above the rank 4'
    ):
        layer = LoRALinear(6, 4, rank=5)
    assert layer(torch.zeros(1, 6)).shape == (1, 4)


def test_no_adapter_on_an_adapter():
    with pytest.raises(ConfigError, match='already'):
        LoRALinear.from_linear(make_layer())


def test_dropout_hits_the_update_only_and_in_training_only():
    layer = make_layer(dropout=0.5)
    x = torch.randn(200, 6)
    stock = F.linear(x, layer.weight, layer.bias)
    torch.manual_seed(1)
    dropped = F.dropout(x, 0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(
        layer(x) - stock, dropped @ layer.delta_weight().T
    )
    layer.eval()
    torch.testing.assert_close(layer(x), expected(layer, x))


@pytest.mark.parametrize('cls', [LoRALinear, LoRAProjection])
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.float16]
)
def test_merge_and_unmerge(cls, dtype):
    layer = make_layer(cls).to(dtype).eval()
    x = torch.randn(5, 6, dtype=dtype)
    with torch.no_grad():
        before = layer(x)
        stock = layer.stock_weight.clone()
        layer.merge()
        merged = layer._parameters['weight'].clone()
        layer.merge()
        assert torch.equal(layer._parameters['weight'], merged)
        assert torch.equal(layer.stock_weight, stock)
        tolerance = dict(atol=1e-6, rtol=1e-5)
        if dtype != torch.float32:
            tolerance = dict(atol=0.05, rtol=0.05)
        torch.testing.assert_close(layer(x), before, **tolerance)
        assert torch.equal(F.linear(x, merged, layer.bias), layer(x))
        layer.unmerge()
        layer.unmerge()
    assert torch.equal(layer._parameters['weight'], stock)
    assert not layer.merged


def test_half_precision_is_rounded_once():
    layer = make_layer()
    layer.weight.data = layer.weight.data.bfloat16()
    exact = layer.weight.float() + layer.delta_weight()
    assert torch.equal(layer.merged_weight(), exact.bfloat16())


def test_output_is_no_view():
    """An FFN's in-place activation is slower on one, and as good without."""
    layer = make_layer()
    x = torch.randn(2, 5, 6)
    assert not layer(x)._is_view()
    torch.testing.assert_close(F.relu_(layer(x)), F.relu(expected(layer, x)))


@pytest.mark.parametrize('cls', [LoRALinear, LoRAProjection])
@pytest.mark.parametrize('merged', [False, True])
def test_disabled_is_the_stock_layer(cls, merged):
    layer = make_layer(cls)
    x = torch.randn(2, 5, 6)
    stock = F.linear(x, layer.stock_weight, layer.bias).clone()
    if merged:
        layer.merge()
    layer.enabled = False
    assert torch.equal(layer(x), stock)
    assert torch.equal(F.linear(x, layer.stock_weight, layer.bias), stock)


def test_state_dict_of_a_merged_layer_is_not_counted_twice():
    layer = make_layer()
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.merge()
    state = layer.state_dict()
    assert list(state) == ['weight', 'bias', 'lora_A', 'lora_B']
    for key, value in before.items():
        assert torch.equal(state[key], value)
    layer.load_state_dict(state)
    assert not layer.merged
    assert torch.equal(layer.weight, before['weight'])


def test_merged_layer_moves_as_a_whole():
    layer = make_layer()
    layer.merge()
    layer.double()
    assert layer.stock_weight.dtype == torch.double
    layer.unmerge()
    assert layer.weight.dtype == torch.double


@pytest.mark.parametrize('merged', [False, True])
def test_deepcopy_is_independent(merged):
    layer = make_layer()
    if merged:
        layer.merge()
    x = torch.randn(5, 6)
    before = layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), before)
    nn.init.zeros_(twin.lora_B)
    twin.unmerge()
    assert torch.equal(layer(x), before)
    assert not torch.equal(twin(x), before)


def test_autocast_computes_in_bfloat16_and_trains_in_float32():
    layer = make_layer()
    x = torch.randn(2, 5, 6)
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x)
        merged = layer.merged_weight()
    assert torch.equal(merged, layer.merged_weight())  # not rounded
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(
        out.float(), expected(layer, x), atol=0.05, rtol=0.05
    )
    out.float().sum().backward()
    for parameter in (layer.lora_A, layer.lora_B):
        assert parameter.dtype == torch.float32
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any()


def test_the_update_is_never_materialised():
    layer = LoRALinear.from_linear(nn.Linear(512, 512), rank=2)
    nn.init.normal_(layer.lora_B)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t) or t, lambda t: t
    ):
        layer(torch.randn(3, 512, requires_grad=True)).sum().backward()
    new = [t for t in saved if t.data_ptr() != layer.weight.data_ptr()]
    assert new and max(t.numel() for t in new) <= 3 * 512


def test_to_linear_gives_the_old_class_back():
    class Special(nn.Linear):
        pass

    linear = Special(6, 4)
    linear.note = 'kept'
    layer = LoRALinear.from_linear(linear, rank=2)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 6)
    before = layer(x)
    stock = layer.to_linear()
    assert type(stock) is Special and stock.note == 'kept'
    assert list(stock.state_dict()) == ['weight', 'bias']
    assert set(vars(stock)) == set(vars(Special(6, 4))) | {'note'}
    torch.testing.assert_close(stock(x), before)
