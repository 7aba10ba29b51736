"""Transformer blocks and layers are found from the modules."""

import pytest
from mmcv.cnn.bricks.transformer import FFN, BaseTransformerLayer
from torch import nn
from torch.nn.utils import parametrizations

from gslora_mm.lora import TransformerBlock, transformer_blocks
from gslora_mm.lora.find import find_linears, is_linear
from gslora_mm.utils import ConfigError
from tests.detectors import build_detector


def test_blocks_of_the_toy(toy):
    assert transformer_blocks(toy) == [
        TransformerBlock(
            f'blocks.{i}', (f'blocks.{i}.ffn',), (f'blocks.{i}.attn',)
        )
        for i in range(2)
    ]
    assert [b.name for b in transformer_blocks(toy.blocks[0])] == ['']


def test_blocks_of_a_detector():
    """The FFN of DETR's box head is left out, names play no part."""
    detr = build_detector('detr')
    assert isinstance(detr.bbox_head.reg_ffn, FFN)
    blocks = transformer_blocks(detr)
    assert [b.name for b in blocks] == [
        f'{part}.layers.{i}' for part in ('encoder', 'decoder') for i in (0, 1)
    ]
    assert [len(b.attentions) for b in blocks] == [1, 1, 2, 2]


def test_mmcv_layer_keeps_its_parts_in_lists():
    layer = BaseTransformerLayer(
        attn_cfgs=[dict(type='MultiheadAttention', embed_dims=16, num_heads=2)]
        * 2,
        ffn_cfgs=dict(type='FFN', embed_dims=16, feedforward_channels=32),
        operation_order=('self_attn', 'norm', 'cross_attn', 'norm', 'ffn'),
    )
    (block,) = transformer_blocks(nn.ModuleList([layer]))
    assert block.name == '0'
    assert block.ffns == ('0.ffns.0',)
    assert block.attentions == ('0.attentions.0', '0.attentions.1')


FFN_LAYERS = ['ffn.layers.0.0', 'ffn.layers.1']


@pytest.mark.parametrize(
    'target, expected',
    [
        ('ffn', FFN_LAYERS),
        ('attention', ['attn.attn.out_proj']),
        ('all', ['attn.attn.out_proj', *FFN_LAYERS]),
        (r'blocks\.\d\.ffn\.layers\.1$', ['ffn.layers.1']),
    ],
)
def test_targets(toy, target, expected):
    assert find_linears(toy, target) == [
        f'blocks.{i}.{name}' for i in range(2) for name in expected
    ]
    assert find_linears(toy, target, exclude=['blocks.0', 'stem']) == [
        f'blocks.1.{name}' for name in expected
    ]


def test_exclude_is_by_module_not_by_letters(toy):
    assert len(find_linears(toy, 'ffn', exclude=['block', 'blocks.0.ff'])) == 4


def test_expression_reaches_what_is_in_no_block(toy):
    assert find_linears(toy, 'stem|fc_cls') == ['stem', 'fc_cls']
    assert find_linears(toy, '^box_ffn') == [
        'box_ffn.layers.0.0',
        'box_ffn.layers.1',
    ]


def test_nothing_found_lists_what_there_is():
    model = nn.Sequential(FFN(16, 32), nn.Linear(16, 2))
    with pytest.raises(ConfigError) as error:
        find_linears(model, 'ffn')
    message = str(error.value)
    assert "adapter.target = 'ffn'" in message
    # the linear layers of an FFN lie in Sequentials: its class is meant
    assert 'FFN (2)' in message and 'Sequential (1)' in message
    assert "'0.layers.0.0'" in message
    with pytest.raises(ConfigError, match='no linear layer'):
        find_linears(nn.Conv2d(1, 1, 1), 'all')


@pytest.mark.parametrize('target', ['(', None, ['ffn'], 3])
def test_malformed_target(toy, target):
    with pytest.raises(ConfigError, match='adapter.target = .*regular expr'):
        find_linears(toy, target)


def test_only_plain_linear_layers():
    class Normalised(nn.Linear):
        def forward(self, x):
            return super().forward(x).softmax(-1)

    assert is_linear(nn.Linear(2, 2))
    assert is_linear(FFN(16, 32).layers[1])
    assert not is_linear(Normalised(2, 2))
    assert not is_linear(parametrizations.weight_norm(nn.Linear(2, 2)))
    assert not is_linear(nn.Bilinear(2, 2, 2))


def test_within_modules_alone(toy):
    found = find_linears(toy, 'all', within=['blocks.1'])
    assert len(found) == 3
    assert all(name.startswith('blocks.1.') for name in found)
    assert len(find_linears(toy, 'ffn', ['blocks.0'], ['blocks'])) == 2
    with pytest.raises(ConfigError, match="within: unknown name 'block'"):
        find_linears(toy, 'ffn', within=['block'])
    with pytest.raises(ConfigError, match=r"within \('stem',\)"):
        find_linears(toy, 'ffn', within=['stem'])
