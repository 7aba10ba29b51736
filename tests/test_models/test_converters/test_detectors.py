"""Detectors of other code bases become detectors of mmdet."""

import re
from collections import OrderedDict

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from gslora_mm.models.converters import SOURCES, recognise, words_for_config
from gslora_mm.utils import ConfigError
from tests.detectors import tiny_detector_config
from . import layouts
from .dino_reference import DinoReference
from .layouts import CLASSES, WIDTH, draw

TWO_STAGE = dict(stages=2, refine=True)
#: Source, its layout, and the detector of mmdet.
PAIRS = [
    ('detr', layouts.detr(), 'detr'),
    ('hf_detr', layouts.hf_detr(), 'detr'),
    ('dino', layouts.dino(), 'dino'),
    *(
        (source, layout(**settings), f'deformable_detr{name}')
        for source, layout in (
            ('deformable_detr', layouts.deformable_detr),
            ('hf_deformable_detr', layouts.hf_deformable_detr),
        )
        for name, settings in (
            ('', {}),
            ('_refine', dict(refine=True)),
            ('_two_stage', TWO_STAGE),
        )
    ),
]


def detector(name: str, classes: int = CLASSES) -> nn.Module:
    """A small detector of mmdet, with the bias that the originals have."""
    init_default_scope('mmdet')
    cfg = tiny_detector_config(name, classes, WIDTH)
    if cfg.neck.norm_cfg:
        cfg.neck.norm_cfg.num_groups = 32
        cfg.neck.bias = True
    return MODELS.build(cfg).eval()


@pytest.mark.parametrize('source, layout, name', PAIRS)
def test_is_recognised_and_fits(source, layout, name):
    state = draw(layout)
    assert recognise(state) == source
    before = {key: value.clone() for key, value in state.items()}
    model = detector(name)
    converted = SOURCES[source].convert(state)
    model.load_state_dict(converted, strict=True)
    for key, value in before.items():
        assert torch.equal(state[key], value)
    words = words_for_config(SOURCES[source], converted)
    assert f'model.bbox_head.num_classes = {CLASSES}\n' in words
    if name != 'detr':
        assert 'model.neck.bias = True\n' in words
        two_stage = name in ('dino', 'deformable_detr_two_stage')
        assert f'model.as_two_stage = {two_stage}\n' in words


def hf_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's weights under the names of Hugging Face.

    Written down from the conversion scripts of transformers 4 for DETR and
    Deformable-DETR.
    """
    deformable = 'transformer.level_embed' in state
    common = [
        (r'^transformer\.', ''),
        (r'linear1', 'fc1'),
        (r'linear2', 'fc2'),
        (r'(encoder.*)norm1', r'\1self_attn_layer_norm'),
        (r'(encoder.*)norm2', r'\1final_layer_norm'),
        (r'(decoder.*)norm3', r'\1final_layer_norm'),
        (r'query_embed', 'query_position_embeddings'),
    ]
    if deformable:
        common += [
            (r'(decoder.*)norm1', r'\1encoder_attn_layer_norm'),
            (r'(decoder.*)norm2', r'\1self_attn_layer_norm'),
            ('cross_attn', 'encoder_attn'),
        ]
    else:
        common += [
            (r'(decoder.*)norm1', r'\1self_attn_layer_norm'),
            (r'(decoder.*)norm2', r'\1encoder_attn_layer_norm'),
            (r'decoder\.norm', 'decoder.layernorm'),
            ('multihead_attn', 'encoder_attn'),
            ('input_proj', 'input_projection'),
            ('^class_embed', 'class_labels_classifier'),
            ('^bbox_embed', 'bbox_predictor'),
        ]
    stages = resnet_names()
    out = {}
    for key, value in state.items():
        if key.startswith('backbone.0.body.'):
            module, _, end = key[16:].rpartition('.')
            new = f'model.backbone.conv_encoder.model.{stages[module]}.{end}'
        else:
            new = key
            for pattern, replacement in common:
                new = re.sub(pattern, replacement, new)
            if not re.match('(class|bbox)_', new):
                new = f'model.{new}'
        if 'in_proj_' in new:
            for letter, part in zip('qkv', value.chunk(3), strict=True):
                out[new.replace('in_proj_', f'{letter}_proj.')] = part
        else:
            out[new] = value
    return out


def resnet_names() -> dict[str, str]:
    """Modules of a ResNet-18 of torchvision, as transformers names them."""
    ours, theirs = (
        list(OrderedDict.fromkeys(k.rpartition('.')[0] for k in layout))
        for layout in (layouts.resnet18(), layouts.resnet18(hf=True))
    )
    return dict(zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    'source, settings',
    [
        ('detr', {}),
        ('deformable_detr', {}),
        ('deformable_detr', dict(refine=True)),
        ('deformable_detr', TWO_STAGE),
    ],
)
def test_originals_become_what_their_copies_at_hugging_face_become(
    source, settings
):
    state = draw(getattr(layouts, source)(**settings))
    copy = hf_names(state)
    assert {k: v.shape for k, v in copy.items()} == getattr(
        layouts, f'hf_{source}'
    )(**settings)
    ours = SOURCES[source].convert(state)
    theirs = SOURCES[f'hf_{source}'].convert(copy)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


@torch.no_grad()
def test_dino_computes_the_same():
    state = draw(layouts.dino())
    model = detector('dino')
    model.load_state_dict(SOURCES['dino'].convert(state), strict=True)
    images = torch.randn(
        2, 3, 96, 128, generator=torch.Generator().manual_seed(1)
    )
    sample = DetDataSample()
    sample.set_metainfo(dict(img_shape=(96, 128), batch_input_shape=(96, 128)))
    logits, boxes = model(images, [sample] * 2, mode='tensor')[:2]
    expected = DinoReference(state)(model.backbone(images))
    torch.testing.assert_close(logits[-1], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(boxes[-1], expected[1], atol=1e-5, rtol=1e-5)


def test_dino_of_openmmlab_fits_the_installed_mmdet():
    expected = SOURCES['dino'].convert(draw(layouts.dino()))
    key = 'decoder.ref_point_head.layers.0.weight'
    state = OrderedDict(expected)
    state[key] = draw(layouts.dino())[f'transformer.{key}']
    assert recognise(state) == 'mmdet3_dino'
    converted = SOURCES['mmdet3_dino'].convert(state)
    assert converted.keys() == expected.keys()
    assert torch.equal(converted[key], expected[key])


V2 = [
    (r'^neck\.convs\.0\.conv', 'bbox_head.input_proj'),  # of DETR alone
    (r'^level_embed', 'bbox_head.transformer.level_embeds'),
    (r'^query_embedding', 'bbox_head.query_embedding'),
    (r'^reference_points_fc', 'bbox_head.transformer.reference_points'),
    (r'^memory_trans_fc', 'bbox_head.transformer.enc_output'),
    (r'^memory_trans_norm', 'bbox_head.transformer.enc_output_norm'),
    (r'^pos_trans_fc', 'bbox_head.transformer.pos_trans'),
    (r'^pos_trans_norm', 'bbox_head.transformer.pos_trans_norm'),
    (r'^((?:en|de)coder\.)', r'bbox_head.transformer.\1'),
    (r'\.self_attn\.', '.attentions.0.'),
    (r'\.cross_attn\.', '.attentions.1.'),
    (r'\.ffn\.', '.ffns.0.'),
]


def v2_names(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """A detector of mmdet 3 under the names of mmdet 2.28."""
    old = {}
    for key, value in state.items():
        for pattern, replacement in V2[name != 'detr' :]:
            key = re.sub(pattern, replacement, key)
        old[key] = value
    return old


@pytest.mark.parametrize(
    'name',
    [
        'detr',
        'deformable_detr',
        'deformable_detr_refine',
        'deformable_detr_two_stage',
    ],
)
def test_names_of_mmdet_2(name):
    stock = detector(name).state_dict()
    old = v2_names(stock, name)
    source = recognise(old)
    assert source == f'mmdet2_{name.partition("_r")[0].partition("_two")[0]}'
    converted = SOURCES[source].convert(old)
    assert converted.keys() == stock.keys()
    for key, value in stock.items():
        # A level embedding begins as whatever was in memory.
        torch.testing.assert_close(
            converted[key], value, rtol=0, atol=0, equal_nan=True
        )


def test_rows_of_coco():
    state = draw(layouts.detr(91))
    bias = state['class_embed.bias']
    bias.copy_(torch.arange(92))
    found = SOURCES['detr'].convert(state)['bbox_head.fc_cls.bias']
    assert len(found) == 81
    # person, bicycle; wine glass after bottle; toothbrush; the background
    assert found[[0, 1, 39, 40, 79, 80]].tolist() == [1, 2, 44, 46, 90, 91]


def test_rows_of_coco_in_two_stages():
    """The first row of the encoder's classifier is no category's."""
    state = draw(layouts.deformable_detr(91, **TWO_STAGE))
    for i in range(3):
        state[f'class_embed.{i}.bias'].copy_(torch.arange(91))
    found = SOURCES['deformable_detr'].convert(state)
    rows = [
        found[f'bbox_head.cls_branches.{i}.bias'][:2].tolist()
        for i in range(3)
    ]
    assert rows == [[1, 2], [1, 2], [0, 2]]

    state = draw(layouts.dino(91))
    labels = state['label_enc.weight'].clone()
    state['transformer.enc_out_class_embed.bias'].copy_(torch.arange(91))
    found = SOURCES['dino'].convert(state)
    assert found['bbox_head.cls_branches.2.bias'][:2].tolist() == [1, 2]
    embedding = found['dn_query_generator.label_embedding.weight']
    assert torch.equal(embedding[0], labels[1])
    assert len(embedding) == 80


def test_rows_that_are_asked_for():
    state = draw(layouts.detr())
    convert = SOURCES['detr'].convert
    found = convert(state, class_rows=[3, 1])['bbox_head.fc_cls.weight']
    assert torch.equal(found, state['class_embed.weight'][[3, 1, 5]])
    for rows in ([5], [-1], [1, 1]):
        with pytest.raises(ConfigError, match='numbers from 0 to 4'):
            convert(state, class_rows=rows)


def test_a_head_that_is_stored_once():
    """As ``save_pretrained`` does with what layers share."""
    layout = layouts.hf_deformable_detr()
    state = draw(layout)
    stored = {k: v for k, v in state.items() if '_embed.1.' not in k}
    assert len(stored) < len(state)
    assert recognise(stored) == 'hf_deformable_detr'
    model = detector('deformable_detr')
    converted = SOURCES['hf_deformable_detr'].convert(stored)
    model.load_state_dict(converted, strict=True)
    first, second = model.bbox_head.cls_branches
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'model._orig_mod.'])
def test_what_wrappers_put_before(prefix):
    state = draw(layouts.hf_detr())
    wrapped = {f'{prefix}{key}': value for key, value in state.items()}
    assert recognise(wrapped) == 'hf_detr'
    assert SOURCES['hf_detr'].convert(wrapped).keys() == (
        SOURCES['hf_detr'].convert(state).keys()
    )


def test_what_is_refused():
    state = draw(layouts.detr())
    assert recognise({'fc.weight': torch.zeros(2, 2)}) is None
    assert recognise({}) is None
    assert recognise(detector('detr').state_dict()) is None
    assert recognise(detector('deformable_detr').state_dict()) is None

    convert = SOURCES['detr'].convert
    with pytest.raises(ConfigError, match="1 unknown keys .'mask_head.lay1."):
        convert(state | {'mask_head.lay1.weight': torch.zeros(1)})
    swin = {'backbone.0.patch_embed.proj.weight': torch.zeros(1)}
    with pytest.raises(ConfigError, match='1 unknown keys'):
        convert(state | swin)

    state = draw(layouts.deformable_detr(refine=True))
    key = 'transformer.decoder.bbox_embed.0.layers.0.weight'
    state[key] = state[key] + 1
    with pytest.raises(ConfigError, match=f"unknown keys .'{key}'"):
        SOURCES['deformable_detr'].convert(state)

    state = draw(layouts.hf_detr())
    del state['model.encoder.layers.0.self_attn.k_proj.weight']
    with pytest.raises(ConfigError, match=r"only \['q', 'v'\]"):
        SOURCES['hf_detr'].convert(state)
