"""Checkpoints of other code bases compute the same after conversion."""

import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.models.converters import SOURCES, recognise, words_for_config
from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError

from torchvision.models import VisionTransformer  # isort: skip

WIDTH, HEADS, DEPTH, PATCH, SIZE, CLASSES = 32, 4, 2, 4, 16, 7

convert_face_transformer = SOURCES['face_transformer'].convert
convert_torchvision_vit = SOURCES['torchvision_vit'].convert


def face_checkpoint() -> OrderedDict:
    """Random weights with the published names of ``ViT_face``."""
    torch.manual_seed(0)
    tokens = (SIZE // PATCH) ** 2 + 1
    state = OrderedDict(
        pos_embedding=torch.randn(1, tokens, WIDTH),
        cls_token=torch.randn(1, 1, WIDTH),
    )

    def linear(name, rows, columns, bias=True):
        state[f'{name}.weight'] = torch.randn(rows, columns) / columns**0.5
        if bias:
            state[f'{name}.bias'] = torch.randn(rows)

    def norm(name):
        state[f'{name}.weight'] = 1 + torch.randn(WIDTH) / 4
        state[f'{name}.bias'] = torch.randn(WIDTH) / 4

    linear('patch_to_embedding', WIDTH, 3 * PATCH**2)
    for i in range(DEPTH):
        layer = f'transformer.layers.{i}'
        norm(f'{layer}.0.fn.norm')
        linear(f'{layer}.0.fn.fn.to_qkv', 3 * WIDTH, WIDTH, bias=False)
        linear(f'{layer}.0.fn.fn.to_out.0', WIDTH, WIDTH)
        norm(f'{layer}.1.fn.norm')
        linear(f'{layer}.1.fn.fn.net.0', 2 * WIDTH, WIDTH)
        linear(f'{layer}.1.fn.fn.net.3', WIDTH, 2 * WIDTH)
    norm('mlp_head.0')
    state['loss.weight'] = torch.randn(CLASSES, WIDTH)
    # Attention has to matter for the test of its scale.
    for i in range(DEPTH):
        state[f'transformer.layers.{i}.0.fn.fn.to_qkv.weight'] *= 2
    return state


def face_reference(state: dict, images: torch.Tensor) -> torch.Tensor:
    """Cosines of a Face Transformer, from its description.

    Patches are flattened row by row with the channels last; pre-norm blocks
    with attention scaled by the root of the width; the class token through
    a last norm; cosine to the class weights.
    """

    def linear(x, name):
        return F.linear(x, state[f'{name}.weight'], state.get(f'{name}.bias'))

    def norm(x, name):
        weight, bias = state[f'{name}.weight'], state[f'{name}.bias']
        return F.layer_norm(x, (WIDTH,), weight, bias, eps=1e-5)

    number = SIZE // PATCH
    patches = torch.stack(
        [
            images[
                :,
                :,
                row * PATCH : (row + 1) * PATCH,
                column * PATCH : (column + 1) * PATCH,
            ]
            .permute(0, 2, 3, 1)
            .flatten(1)
            for row in range(number)
            for column in range(number)
        ],
        dim=1,
    )
    x = linear(patches, 'patch_to_embedding')
    x = torch.cat([state['cls_token'].expand(len(x), 1, WIDTH), x], dim=1)
    x = x + state['pos_embedding']
    for i in range(DEPTH):
        layer = f'transformer.layers.{i}'
        normed = norm(x, f'{layer}.0.fn.norm')
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in linear(normed, f'{layer}.0.fn.fn.to_qkv').chunk(3, -1)
        )
        weights = (query @ key.mT * WIDTH**-0.5).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f'{layer}.0.fn.fn.to_out.0')
        normed = norm(x, f'{layer}.1.fn.norm')
        hidden = F.gelu(linear(normed, f'{layer}.1.fn.fn.net.0'))
        x = x + linear(hidden, f'{layer}.1.fn.fn.net.3')
    embedding = norm(x[:, 0], 'mlp_head.0')
    return F.cosine_similarity(
        embedding[:, None], state['loss.weight'][None], dim=2
    )


def classifier(head: dict, **backbone) -> torch.nn.Module:
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='VisionTransformer',
                arch=dict(
                    embed_dims=WIDTH,
                    num_layers=DEPTH,
                    num_heads=HEADS,
                    feedforward_channels=2 * WIDTH,
                ),
                img_size=SIZE,
                patch_size=PATCH,
                **backbone,
            ),
            head=dict(num_classes=CLASSES, in_channels=WIDTH, **head),
        )
    ).eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, SIZE, SIZE)


def test_face_transformer(images):
    state = face_checkpoint()
    model = classifier(
        dict(type='gslora_mm.CosFaceClsHead'),
        qkv_bias=False,
        norm_cfg=dict(type='LN', eps=1e-5),
    )
    before = {key: value.clone() for key, value in state.items()}
    converted = convert_face_transformer(state, num_heads=HEADS)
    model.load_state_dict(converted, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(
            model(images) / 64,
            face_reference(state, images),
            atol=1e-5,
            rtol=0,
        )
    for key, value in before.items():
        assert torch.equal(state[key], value)
    # The scale of the attention shows in the figures.
    wrong = convert_face_transformer(state, num_heads=1)
    model.load_state_dict(wrong)
    with torch.no_grad():
        difference = model(images) / 64 - face_reference(state, images)
    assert difference.abs().max() > 0.01


def test_the_face_transformer_of_the_papers_has_these_shapes():
    converted = convert_face_transformer(face_checkpoint(), num_heads=HEADS)
    key = 'backbone.patch_embed.projection.weight'
    assert converted[key].shape == (WIDTH, 3, PATCH, PATCH)
    assert len(converted) == 7 + 11 * DEPTH


def torchvision_vit(**settings):
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=SIZE,
        patch_size=PATCH,
        num_layers=DEPTH,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        mlp_dim=2 * WIDTH,
        num_classes=CLASSES,
        **settings,
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize('legacy', [False, True])
def test_torchvision_vit(images, legacy):
    source = torchvision_vit()
    state = source.state_dict()
    assert 'encoder.layers.encoder_layer_0.mlp.0.weight' in state
    if legacy:  # the keys of the published files
        state = OrderedDict(
            (
                key.replace('mlp.0', 'mlp.linear_1').replace(
                    'mlp.3', 'mlp.linear_2'
                ),
                value,
            )
            for key, value in state.items()
        )
    model = classifier(dict(type='VisionTransformerClsHead'))
    model.load_state_dict(convert_torchvision_vit(state), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(
            model(images), source(images), atol=1e-5, rtol=1e-5
        )


#: Names of torchvision, of timm, and of Hugging Face.
VIT_NAMES = [
    ('class_token', 'cls_token', 'vit.embeddings.cls_token'),
    (
        'encoder.pos_embedding',
        'pos_embed',
        'vit.embeddings.position_embeddings',
    ),
    (
        'conv_proj.',
        'patch_embed.proj.',
        'vit.embeddings.patch_embeddings.projection.',
    ),
    ('encoder.ln.', 'norm.', 'vit.layernorm.'),
    ('heads.head.', 'head.', 'classifier.'),
    ('encoder.layers.encoder_layer_', 'blocks.', 'vit.encoder.layer.'),
    ('.ln_1.', '.norm1.', '.layernorm_before.'),
    ('.ln_2.', '.norm2.', '.layernorm_after.'),
    ('.self_attention.in_proj_', '.attn.qkv.', '.attention.attention.X.'),
    ('.self_attention.out_proj.', '.attn.proj.', '.attention.output.dense.'),
    ('.mlp.0.', '.mlp.fc1.', '.intermediate.dense.'),
    ('.mlp.3.', '.mlp.fc2.', '.output.dense.'),
]


@pytest.mark.parametrize('column, source', [(1, 'timm_vit'), (2, 'hf_vit')])
def test_other_names_of_the_same_vit(column, source):
    state = torchvision_vit().state_dict()
    assert recognise(state) == 'torchvision_vit'
    renamed = {}
    for key, value in state.items():
        for names in VIT_NAMES:
            key = key.replace(names[0], names[column])
        if '.X.' in key:
            parts = zip(('query', 'key', 'value'), value.chunk(3), strict=True)
            renamed |= {key.replace('X', name): part for name, part in parts}
        else:
            renamed[key] = value
    assert recognise(renamed) == source
    found = SOURCES[source].convert(renamed)
    expected = convert_torchvision_vit(state)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value)
    words = words_for_config(SOURCES[source], found)
    assert f'model.backbone.img_size = {SIZE}\n' in words
    assert ("{'type': 'LN', 'eps': 1e-12}" in words) == (source == 'hf_vit')


def test_positions_that_mmpretrain_would_resize():
    """Such as those of timm's models without one for the class token."""
    state = torchvision_vit().state_dict()
    positions = state['encoder.pos_embedding']
    state['encoder.pos_embedding'] = positions[:, 1:]
    with pytest.raises(ConfigError, match=r'positions of shape \(1, 16, 32\)'):
        convert_torchvision_vit(state)


def test_torchvision_vit_with_a_hidden_layer(images):
    source = torchvision_vit(representation_size=16)
    model = classifier(dict(type='VisionTransformerClsHead', hidden_dim=16))
    converted = convert_torchvision_vit(source.state_dict())
    model.load_state_dict(converted, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(
            model(images), source(images), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize('name', SOURCES)
def test_other_checkpoints_are_refused(name):
    convert = SOURCES[name].convert
    with pytest.raises(ConfigError, match=r"1 unknown keys \['fc.weight'\]"):
        convert({'fc.weight': torch.zeros(2, 2)})
    with pytest.raises(ConfigError, match='0 unknown keys'):
        convert({})


def test_what_a_face_transformer_cannot_be():
    state = face_checkpoint()
    del state['loss.weight']
    with pytest.raises(ConfigError, match=r"1 without a match \['loss'\]"):
        convert_face_transformer(state)

    state = face_checkpoint()
    state['transformer.layers.0.1.fn.fn.net.0.lora_A'] = torch.zeros(8, WIDTH)
    with pytest.raises(ConfigError, match='LoRA matrices beside the weights'):
        convert_face_transformer(state)

    state = face_checkpoint()
    state['loss.bias'] = torch.zeros(CLASSES)
    with pytest.raises(ConfigError, match='ordinary linear classifier'):
        convert_face_transformer(state)

    state = face_checkpoint()
    state['patch_to_embedding.weight'] = torch.zeros(WIDTH, 50)
    with pytest.raises(ConfigError, match='square patch'):
        convert_face_transformer(state)

    state = face_checkpoint()
    key = 'transformer.layers.1.0.fn.fn.to_qkv.weight'
    state[key] = torch.zeros(6 * WIDTH, WIDTH)
    with pytest.raises(ConfigError, match=r'to_qkv.weight: \(192, 32\)'):
        convert_face_transformer(state, num_heads=HEADS)

    with pytest.raises(ConfigError, match='num_heads = 5: must divide'):
        convert_face_transformer(face_checkpoint(), num_heads=5)


def test_only_the_queries_are_scaled():
    state = face_checkpoint()
    converted = convert_face_transformer(state, num_heads=HEADS)
    found = converted['backbone.layers.0.attn.qkv.weight']
    expected = state['transformer.layers.0.0.fn.fn.to_qkv.weight']
    torch.testing.assert_close(
        found[:WIDTH], expected[:WIDTH] / math.sqrt(HEADS)
    )
    assert torch.equal(found[WIDTH:], expected[WIDTH:])
