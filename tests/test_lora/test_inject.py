"""inject_lora, merge_lora and unmerge_lora on whole models."""

import copy

import pytest
import torch
from torch import nn

from gslora_mm.lora import (
    LoRALinear,
    LoRAProjection,
    disable_lora,
    inject_lora,
    lora_layers,
    lora_parameters,
    merge_lora,
    stock_layers,
    unmerge_lora,
)
from gslora_mm.utils import ConfigError
from tests.test_lora.helpers import assert_same, perturb

FFN = [
    f'blocks.{i}.ffn.{name}'
    for i in (0, 1)
    for name in ('layers.0.0', 'layers.1')
]


def test_freezes_all_but_the_adapter(toy, x):
    stock = toy(x)
    keys = list(toy.state_dict())
    names = inject_lora(toy, rank=4)
    assert names == FFN == list(lora_layers(toy))
    trained = {n for n, p in toy.named_parameters() if p.requires_grad}
    assert trained == {f'{n}.lora_{m}' for n in FFN for m in 'AB'}
    assert [k for k in toy.state_dict() if 'lora_' not in k] == keys
    assert_same(toy(x), stock)


def test_settings_arrive(toy):
    inject_lora(toy, rank=2, alpha=3.0, dropout=0.25, target='all')
    for layer in lora_layers(toy).values():
        assert (layer.rank, layer.alpha, layer.dropout) == (2, 3.0, 0.25)
        assert layer.lora_A.shape == (2, layer.in_features)


def test_seed_decides_the_adapter(toy):
    twin = copy.deepcopy(toy)
    for model in (toy, twin):
        torch.manual_seed(5)
        inject_lora(model, rank=4)
    for one, other in zip(
        lora_parameters(toy), lora_parameters(twin), strict=True
    ):
        assert torch.equal(one, other)


def test_one_name_as_exclude(toy):
    assert inject_lora(toy, rank=4, exclude='blocks.0') == FFN[2:]


def test_stock_checkpoint_loads(toy, x):
    other = copy.deepcopy(toy)
    nn.init.normal_(other.fc_cls.weight)
    inject_lora(toy, rank=4)
    missing, unexpected = toy.load_state_dict(other.state_dict(), strict=False)
    assert missing == [f'{n}.lora_{m}' for n in FFN for m in 'AB']
    assert not unexpected
    assert_same(toy(x), other(x))


@pytest.mark.parametrize('target', ['ffn', 'attention', 'all', 'stem'])
def test_training_changes_the_adapter_only(toy, x, target):
    inject_lora(toy, rank=4, target=target)
    toy.train()
    before = copy.deepcopy(toy.state_dict())
    optimizer = torch.optim.SGD(lora_parameters(toy), lr=1.0)
    for _ in range(2):  # A moves once B is not 0 any more
        optimizer.zero_grad()
        toy(x).square().mean().backward()
        optimizer.step()
    for key, value in toy.state_dict().items():
        assert torch.equal(value, before[key]) == ('lora_' not in key), key


@pytest.mark.parametrize('target', ['ffn', 'attention', 'all', '.*'])
def test_merge_leaves_no_trace(toy, x, target):
    toy.stem.weight.requires_grad_(False)
    stock = copy.deepcopy(toy)
    inject_lora(toy, rank=4, target=target)
    perturb(toy)
    adapted = toy(x)
    assert not torch.allclose(adapted, stock(x), atol=1e-3)
    assert merge_lora(toy) is toy
    torch.testing.assert_close(toy(x), adapted, atol=1e-5, rtol=1e-5)

    assert not lora_layers(toy) and not hasattr(toy, 'lora_injection')
    assert list(toy.state_dict()) == list(stock.state_dict())
    for (name, one), (other_name, other) in zip(
        toy.named_modules(), stock.named_modules(), strict=True
    ):
        assert name == other_name and type(one) is type(other)
        assert set(vars(one)) == set(vars(other))
    for one, other in zip(toy.parameters(), stock.parameters(), strict=True):
        assert one.requires_grad == other.requires_grad
    stock.load_state_dict(toy.state_dict(), strict=True)
    assert_same(stock(x), toy(x))
    merged = copy.deepcopy(toy.state_dict())
    merge_lora(toy)
    for key, value in toy.state_dict().items():
        assert torch.equal(value, merged[key])


def test_a_fresh_adapter_after_merging(toy, x):
    inject_lora(toy, rank=4)
    merge_lora(perturb(toy))
    merged = toy(x)
    assert inject_lora(toy, rank=2) == FFN
    assert_same(toy(x), merged)


def test_merge_of_one_layer_and_of_a_wrapped_model(toy, x):
    stock_class = type(toy.get_submodule(FFN[0]))
    inject_lora(toy, rank=4)
    adapted = perturb(toy)(x)
    assert type(merge_lora(lora_layers(toy)[FFN[0]])) is stock_class
    wrapped = nn.Sequential(toy)
    assert merge_lora(wrapped) is wrapped
    assert not lora_layers(toy) and toy.stem.weight.requires_grad
    torch.testing.assert_close(toy(x), adapted, atol=1e-5, rtol=1e-5)


def test_unmerge_is_exact(toy, x):
    inject_lora(toy, rank=4, target='all')
    perturb(toy)
    stock = {k: v.clone() for k, v in toy.named_parameters()}
    adapted = toy(x)
    for layer in lora_layers(toy).values():
        layer.merge()
    torch.testing.assert_close(toy(x), adapted, atol=1e-5, rtol=1e-5)
    unmerge_lora(toy)
    for name, parameter in toy.named_parameters():
        assert torch.equal(parameter, stock[name])
    assert torch.equal(toy(x), adapted)


def test_second_injection_is_refused(toy):
    inject_lora(toy, rank=4)
    with pytest.raises(ConfigError, match='already.*merge_lora'):
        inject_lora(toy, rank=4, target='attention')


def test_nothing_is_changed_by_a_refused_injection(toy):
    toy.fc_cls.weight = toy.box_ffn.layers[1].weight = nn.Parameter(
        torch.zeros(16, 16)
    )
    before = {n: p.requires_grad for n, p in toy.named_parameters()}
    for settings, message in [
        (dict(rank=0), 'adapter.rank = 0'),
        (dict(target='nothing'), 'no linear layer'),
        (dict(target='stem|fc_cls'), 'fc_cls is tied'),
    ]:
        with pytest.raises(ConfigError, match=message):
            inject_lora(toy, **settings)
    assert not lora_layers(toy)
    assert before == {n: p.requires_grad for n, p in toy.named_parameters()}


def test_shared_layers_stay_shared(toy, x):
    toy.blocks[1].ffn.layers[1] = toy.blocks[0].ffn.layers[1]
    names = inject_lora(toy, rank=4)
    assert names == [FFN[0], FFN[1], FFN[2]]
    perturb(toy)
    shared = toy.blocks[0].ffn.layers[1]
    assert isinstance(shared, LoRALinear)
    assert toy.blocks[1].ffn.layers[1] is shared
    assert len(lora_parameters(toy)) == 6
    adapted = toy(x)
    merge_lora(toy)
    assert toy.blocks[1].ffn.layers[1] is toy.blocks[0].ffn.layers[1]
    torch.testing.assert_close(toy(x), adapted, atol=1e-5, rtol=1e-5)


def test_deepcopy_of_an_adapted_model(toy, x):
    inject_lora(toy, rank=4, target='all')
    adapted = perturb(toy)(x)
    twin = copy.deepcopy(toy)
    assert torch.equal(twin(x), adapted)
    merge_lora(perturb(twin, seed=2))
    assert torch.equal(toy(x), adapted)
    assert len(lora_layers(toy)) == 6
    assert not {id(p) for p in toy.parameters()} & {
        id(p) for p in twin.parameters()
    }


@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_out_proj_of_torch_attention(batch_first, training):
    """Read by attribute, in the Python path and in torch's fused one."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
    model = nn.Sequential(attention).train(training)
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        stock = attention(x, x, x)[0]
        assert inject_lora(model, rank=4, target='out_proj') == ['0.out_proj']
        assert type(attention.out_proj) is LoRAProjection
        torch.testing.assert_close(attention(x, x, x)[0], stock)
        perturb(model)
        adapted = attention(x, x, x)[0]
        assert not torch.allclose(adapted, stock, atol=1e-2)
        with disable_lora(model):
            torch.testing.assert_close(attention(x, x, x)[0], stock)
        torch.testing.assert_close(attention(x, x, x)[0], adapted)
    attention(x, x, x)[0].sum().backward()
    for parameter in lora_parameters(model):
        assert parameter.grad.any()
    with torch.no_grad():
        merge_lora(model)
        assert type(attention.out_proj) is type(
            nn.MultiheadAttention(4, 1).out_proj
        )
        torch.testing.assert_close(attention(x, x, x)[0], adapted)


@pytest.mark.parametrize('grad', [False, True])
def test_torch_encoder_layer(grad):
    """In evaluation it reads linear1.weight and calls one fused kernel."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    model = nn.Sequential(layer)
    x = torch.randn(3, 5, 16)
    with torch.set_grad_enabled(grad):
        stock = model(x)
        inject_lora(model, rank=4, target=r'linear\d$')
        adapted = perturb(model)(x)
        assert not torch.allclose(adapted, stock, atol=1e-2)
        merge_lora(model)
        torch.testing.assert_close(model(x), adapted)


def test_stock_layers_stand_in_for_the_adapted_ones(toy, x):
    """What goes through a model by class meets no trace of an adapter."""
    stock = copy.deepcopy(toy)
    inject_lora(toy, rank=4, target='all')
    layers, parameters = lora_layers(toy), lora_parameters(perturb(toy))
    before = [p.detach().clone() for p in parameters]
    with stock_layers(toy):
        assert not lora_layers(toy)
        for one, other in zip(toy.modules(), stock.modules(), strict=True):
            assert type(one) is type(other)
        for module in toy.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        for parameter in toy.parameters():
            nn.init.normal_(parameter, std=0.1)
        changed = copy.deepcopy(toy.state_dict())
    assert lora_layers(toy) == layers
    for parameter, values in zip(parameters, before, strict=True):
        assert torch.equal(parameter, values)
    with disable_lora(toy):
        stock.load_state_dict(changed)
        assert_same(toy(x), stock(x))
    with pytest.raises(KeyError), stock_layers(toy):
        raise KeyError
    assert lora_layers(toy) == layers
