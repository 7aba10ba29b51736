"""The adapter in mmpretrain's Transformers, told from their classes."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.lora import (
    disable_lora,
    inject_lora,
    lora_groups,
    lora_parameters,
    merge_lora,
)
from tests.test_lora.helpers import perturb

VIT = dict(
    type='VisionTransformer',
    arch=dict(
        embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64
    ),
    img_size=32,
    patch_size=16,
)
SWIN = dict(
    arch=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
    img_size=64,
    pad_small_map=True,
    drop_path_rate=0.0,
)
SWIN_V2 = {
    **SWIN,
    'type': 'SwinTransformerV2',
    'arch': {**SWIN['arch'], 'extra_norm_every_n_blocks': 0},
}
# Per backbone: its config, the number of blocks, and of linear layers in
# their FFNs and in their attentions.
BACKBONES = {
    'vit': (VIT, 2, 4, 4),
    'vit_swiglu': (
        {**VIT, 'layer_cfgs': dict(ffn_type='swiglu_fused')},
        2,
        4,
        4,
    ),
    'deit3': ({**VIT, 'type': 'DeiT3'}, 2, 4, 4),
    'beit': ({**VIT, 'type': 'BEiTViT'}, 2, 4, 4),
    'eva02': ({**VIT, 'type': 'ViTEVA02', 'sub_ln': True}, 2, 4, 4),
    'swin': ({**SWIN, 'type': 'SwinTransformer'}, 4, 8, 8),
    'swin_v2': (SWIN_V2, 4, 8, 16),
    'xcit': (
        dict(
            type='XCiT',
            patch_size=16,
            embed_dims=32,
            depth=2,
            num_heads=2,
            cls_attn_layers=1,
            drop_path_rate=0.0,
        ),
        3,
        6,
        2 * 2 + 4,
    ),
}


def build(name: str) -> torch.nn.Module:
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(BACKBONES[name][0]))
    for parameter in model.parameters():  # some start at 0 or nearly
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval()  # returns None for these
    return model


@pytest.mark.parametrize('target', ['ffn', 'attention', 'all'])
@pytest.mark.parametrize('name', BACKBONES)
def test_inject_train_merge(name, target):
    _, num_blocks, num_ffn, num_attention = BACKBONES[name]
    expected = dict(
        ffn=num_ffn, attention=num_attention, all=num_ffn + num_attention
    )
    model = build(name)
    stock = copy.deepcopy(model)
    x = torch.randn(2, 3, *[64 if 'swin' in name else 32] * 2)
    before = model(x)[-1]

    names = inject_lora(model, rank=2, target=target)
    assert len(names) == expected[target]
    assert len(lora_groups(model)) == num_blocks
    torch.testing.assert_close(model(x)[-1], before)
    perturb(model)
    adapted = model(x)[-1]
    assert not torch.allclose(adapted, before, atol=1e-3)
    with disable_lora(model):
        torch.testing.assert_close(model(x)[-1], before)

    adapted.square().mean().backward()
    for parameter in lora_parameters(model):
        assert parameter.grad is not None and parameter.grad.any()

    merge_lora(model)
    torch.testing.assert_close(model(x)[-1], adapted, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == list(stock.state_dict())
    # not strict: SwinTransformerV2 leaves buffers out of its own state dict
    stock.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(stock(x)[-1], model(x)[-1])
