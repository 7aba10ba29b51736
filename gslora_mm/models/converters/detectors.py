"""Detectors of the DETR family of other code bases, as mmdet names them.

All of them predict boxes as mmdet does (centre and size, relative), and have
a ResNet whose stride is in the 3x3 convolution (mmdet's ``style='pytorch'``).
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from gslora_mm.utils import ConfigError
from .source import LAST, Source, StateDict, count_layers

#: Ten of COCO's ids from 1 to 90 name no category. The original code bases
#: have a row for every id, and for 0.
COCO_IDS = sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

_RESNET = (
    r'((?:layer[1-4]\.\d+\.)?(?:conv|bn)[123]'
    r'|layer[1-4]\.\d+\.downsample\.[01])'
)
_DEFORMABLE = '(sampling_offsets|attention_weights|value_proj|output_proj)'


def _layers(
    source: str, target: str, *names: dict[str, str]
) -> dict[str, str]:
    """Make the rules of an encoder or decoder from those of a layer."""
    return {
        rf'{source}\.layers\.(\d+)\.{name}': rf'{target}.layers.\1.{new}'
        for table in names
        for name, new in table.items()
    }


def _branches(source: str, target: str) -> dict[str, str]:
    """Make the rules of a box head, whose activations count in mmdet."""
    return {
        rf'{source}\.layers\.{i}': rf'bbox_head.reg_branches.{target}.{2 * i}'
        for i in range(3)
    }


def _norms(*names: str) -> dict[str, str]:
    return {name: f'norms.{i}' for i, name in enumerate(names)}


def _finish(
    state_dict: StateDict,
    class_rows: Sequence[int] | None = None,
    background: bool = False,
    objectness: bool = False,
) -> None:
    """Sort the neck, repeat shared heads, and select the rows of classes.

    Args:
        state_dict (dict[str, Tensor]): Changed in place.
        class_rows (Sequence[int], optional): Rows of the classifier, in the
            order of mmdet's classes. Defaults to None: those of COCO's
            categories if there are 91, all otherwise.
        background (bool): Whether a row for the background comes last, as
            it does in mmdet. Defaults to False.
        objectness (bool): Whether the first row of the encoder's classifier
            tells objects from background whatever the category, as in
            Deformable-DETR. Defaults to False.

    Raises:
        ConfigError: If there are no such rows.
    """
    _split_neck(state_dict)
    _repeat_heads(state_dict)
    heads = re.compile(r'bbox_head\.(?:fc_cls|cls_branches\.(\d+))\.\w+')
    heads = {k: match for k in state_dict if (match := heads.fullmatch(k))}
    number = len(state_dict[next(iter(heads))]) - background
    if class_rows is None:
        class_rows = COCO_IDS if number == 91 else range(number)
    rows = list(class_rows)
    if len(set(rows)) < len(rows) or not set(rows) <= set(range(number)):
        raise ConfigError(
            'class_rows',
            rows,
            f'must be different numbers from 0 to {number - 1}',
        )
    encoder = str(count_layers('decoder', state_dict))
    for key, match in heads.items():
        index = rows + [number] * background
        if objectness and match[1] == encoder:
            index[0] = 0
        state_dict[key] = state_dict[key][index]
    labels = 'dn_query_generator.label_embedding.weight'
    if labels in state_dict:
        state_dict[labels] = state_dict[labels][rows]


def _split_neck(state_dict: StateDict) -> None:
    """Tell the maps that are made by stride, whose kernels are 3x3."""
    made = [
        int(match[1])
        for key, value in state_dict.items()
        if (match := re.fullmatch(r'neck\.convs\.(\d+)\.conv\.weight', key))
        and value.shape[-1] == 3
    ]
    for i, index in enumerate(sorted(made)):
        for key in [k for k in state_dict if f'neck.convs.{index}.' in k]:
            new = key.replace(f'convs.{index}.', f'extra_convs.{i}.')
            state_dict[new] = state_dict.pop(key)


def _repeat_heads(state_dict: StateDict) -> None:
    """Give every layer the head that Hugging Face stores once."""
    number = count_layers('decoder', state_dict)
    for name in ('cls_branches', 'reg_branches'):
        if count_layers(name, state_dict) == 1:
            for key in [k for k in state_dict if f'.{name}.0.' in k]:
                for i in range(1, number):
                    new = key.replace(f'{name}.0.', f'{name}.{i}.')
                    state_dict[new] = state_dict[key]


#: The first layer of what DINO makes of a box's position.
POSITIONS = 'decoder.ref_point_head.layers.0.weight'


def _finish_dino(
    state_dict: StateDict, class_rows: Sequence[int] | None = None
) -> None:
    """As :func:`_finish`, and fit the positions of the installed mmdet."""
    _finish(state_dict, class_rows)
    _spread_positions(state_dict)


def _spread_positions(state_dict: StateDict) -> None:
    """Put weights of zero where the installed mmdet has more frequencies.

    IDEA and OpenMMLab encode a coordinate by 64 frequencies. OneDL's build
    of mmdet takes 128, of which every second is one of these.
    """
    from mmdet.models.layers import DinoTransformerDecoder

    decoder = DinoTransformerDecoder(
        num_layers=1, layer_cfg={}, post_norm_cfg=None
    )
    weight = state_dict[POSITIONS]
    wanted = decoder.ref_point_head.layers[0].in_features
    if wanted == 2 * weight.shape[1]:
        pairs = weight.unflatten(1, (-1, 1, 2))  # a sine and a cosine each
        spread = torch.cat([pairs, torch.zeros_like(pairs)], 2)
        state_dict[POSITIONS] = spread.flatten(1)


def _needs(state_dict: StateDict, **position: float) -> dict[str, Any]:
    """Read off what a detector of mmdet has to be.

    Args:
        state_dict (dict[str, Tensor]): The finished one.
        **position (float): Arguments of the positional encoding.
    """
    cls = 'bbox_head.fc_cls.bias'
    is_detr = cls in state_dict
    cls = cls if is_detr else 'bbox_head.cls_branches.0.bias'
    needs: dict[str, Any] = {
        'model.bbox_head.num_classes': len(state_dict[cls]) - is_detr
    }
    if 'query_embedding.weight' in state_dict:
        needs['model.num_queries'] = len(state_dict['query_embedding.weight'])
    if not is_detr:
        first, second = (
            state_dict.get(f'bbox_head.reg_branches.{i}.0.weight')
            for i in range(2)
        )
        needs |= {
            'model.num_feature_levels': len(state_dict['level_embed']),
            'model.neck.bias': 'neck.convs.0.conv.bias' in state_dict
            or 'auto',
            'model.as_two_stage': 'memory_trans_fc.weight' in state_dict,
            'model.with_box_refine': second is None or not first.equal(second),
        }
    encoding = dict(
        num_feats=state_dict['encoder.layers.0.norms.0.weight'].numel() // 2,
        normalize=True,
    )
    return {**needs, 'model.positional_encoding': encoding | position}


_FFN = {'linear1': 'ffn.layers.0.0', 'linear2': 'ffn.layers.1'}
_SELF = {r'self_attn\.(in_proj_|out_proj)': r'self_attn.attn.\2'}
_SELF_DEFORMABLE = {rf'self_attn\.{_DEFORMABLE}': r'self_attn.\2'}
_CROSS_DEFORMABLE = {rf'cross_attn\.{_DEFORMABLE}': r'cross_attn.\2'}
_BACKBONE = {rf'backbone\.0\.body\.{_RESNET}': r'backbone.\1'}
_ADVICE = (
    'model.data_preprocessor: mean=[123.675, 116.28, 103.53], '
    'std=[58.395, 57.12, 57.375], bgr_to_rgb=True',
    'no tensor shows dilations (DC5), the number of heads, and how many '
    'queries a two-stage model selects: as in training',
)

#: https://github.com/facebookresearch/detr (arXiv 2005.12872).
DETR = Source(
    'DETR (facebookresearch/detr)',
    {
        **_BACKBONE,
        'input_proj': 'neck.convs.0.conv',
        'query_embed': 'query_embedding',
        **_layers(
            r'transformer\.encoder',
            'encoder',
            _SELF,
            _FFN,
            _norms('norm1', 'norm2'),
        ),
        **_layers(
            r'transformer\.decoder',
            'decoder',
            _SELF,
            {r'multihead_attn\.(in_proj_|out_proj)': r'cross_attn.attn.\2'},
            _FFN,
            _norms('norm1', 'norm2', 'norm3'),
        ),
        r'transformer\.decoder\.norm': 'decoder.post_norm',
        'class_embed': 'bbox_head.fc_cls',
        r'bbox_embed\.layers\.0': 'bbox_head.reg_ffn.layers.0.0',
        r'bbox_embed\.layers\.1': 'bbox_head.reg_ffn.layers.1',
        r'bbox_embed\.layers\.2': 'bbox_head.fc_reg',
    },
    finish=partial(_finish, background=True),
    settings=('class_rows',),
    needs=_needs,
    advice=_ADVICE,
)

_DEFORMABLE_RULES = {
    **_BACKBONE,
    r'input_proj\.(\d+)\.0': r'neck.convs.\1.conv',
    r'input_proj\.(\d+)\.1': r'neck.convs.\1.gn',
    r'transformer\.level_embed': 'level_embed',
    **_layers(
        r'transformer\.encoder',
        'encoder',
        _SELF_DEFORMABLE,
        _FFN,
        _norms('norm1', 'norm2'),
    ),
    # Norms have numbers by another order than that of the computation.
    **_layers(
        r'transformer\.decoder',
        'decoder',
        _SELF,
        _CROSS_DEFORMABLE,
        _FFN,
        _norms('norm2', 'norm1', 'norm3'),
    ),
    r'class_embed\.(\d+)': r'bbox_head.cls_branches.\1',
    **_branches(r'bbox_embed\.(\d+)', r'\1'),
}
_TWO_STAGE = {
    'enc_output': 'memory_trans_fc',
    'enc_output_norm': 'memory_trans_norm',
    'pos_trans': 'pos_trans_fc',
    'pos_trans_norm': 'pos_trans_norm',
}
#: The decoder holds the heads, too, if it refines boxes.
_DECODER_HEADS = {
    r'{}decoder\.class_embed\.(\d+)': r'bbox_head.cls_branches.\1',
    **_branches(r'{}decoder\.bbox_embed\.(\d+)', r'\1'),
}


def _under(prefix: str, rules: dict[str, str]) -> dict[str, str]:
    return {
        rule.format(prefix) if '{}' in rule else prefix + rule: target
        for rule, target in rules.items()
    }


#: https://github.com/fundamentalvision/Deformable-DETR (arXiv 2010.04159).
DEFORMABLE_DETR = Source(
    'Deformable-DETR (fundamentalvision/Deformable-DETR)',
    _DEFORMABLE_RULES,
    {
        'query_embed': 'query_embedding',
        r'transformer\.reference_points': 'reference_points_fc',
        **_under(r'transformer\.', _TWO_STAGE | _DECODER_HEADS),
    },
    finish=partial(_finish, objectness=True),
    settings=('class_rows',),
    needs=partial(_needs, offset=-0.5),
    advice=_ADVICE,
)

#: https://github.com/IDEA-Research/DINO (arXiv 2203.03605).
DINO = Source(
    'DINO (IDEA-Research/DINO)',
    {
        **_DEFORMABLE_RULES,
        r'transformer\.tgt_embed': 'query_embedding',
        r'transformer\.decoder\.norm': 'decoder.norm',
        r'transformer\.decoder\.ref_point_head\.layers\.(\d)': (
            r'decoder.ref_point_head.layers.\1'
        ),
        r'transformer\.enc_output': 'memory_trans_fc',
        r'transformer\.enc_output_norm': 'memory_trans_norm',
        r'transformer\.enc_out_class_embed': f'bbox_head.cls_branches.{LAST}',
        **_branches(r'transformer\.enc_out_bbox_embed', LAST),
        'label_enc': 'dn_query_generator.label_embedding',
    },
    _under(r'transformer\.', _DECODER_HEADS),
    finish=_finish_dino,
    settings=('class_rows',),
    needs=partial(_needs, offset=0.0, temperature=20),
    advice=_ADVICE,
)

_HF_FFN = {'fc1': 'ffn.layers.0.0', 'fc2': 'ffn.layers.1'}
_HF_SELF = {
    r'self_attn\.([qkv])_proj': r'self_attn.attn.in_proj_<\2>',
    r'self_attn\.out_proj': 'self_attn.attn.out_proj',
}
_HF_NORMS = _norms('self_attn_layer_norm', 'final_layer_norm')
_HF_DECODER_NORMS = _norms(
    'self_attn_layer_norm', 'encoder_attn_layer_norm', 'final_layer_norm'
)


def _hf_backbone() -> dict[str, str]:
    """Make the rules of a ResNet of timm, and of transformers itself."""
    places = {r'embedder\.embedder': ('conv1', 'bn1')}
    for i in range(4):
        theirs, ours = rf'encoder\.stages\.{i}\.layers\.(\d+)', f'layer{i + 1}'
        for j in range(3):
            places[rf'{theirs}\.layer\.{j}'] = (
                rf'{ours}.\1.conv{j + 1}',
                rf'{ours}.\1.bn{j + 1}',
            )
        places[rf'{theirs}\.shortcut'] = (
            rf'{ours}.\1.downsample.0',
            rf'{ours}.\1.downsample.1',
        )
    root = r'model\.backbone\.conv_encoder\.model'
    rules = {rf'{root}\.{_RESNET}': r'backbone.\1'}
    for place, (conv, norm) in places.items():
        rules[rf'{root}\.{place}\.convolution'] = f'backbone.{conv}'
        rules[rf'{root}\.{place}\.normalization'] = f'backbone.{norm}'
    return rules


#: transformers' ``DetrForObjectDetection``, before version 5.
HF_DETR = Source(
    'Hugging Face DetrForObjectDetection',
    {
        r'model\.input_projection': 'neck.convs.0.conv',
        r'model\.query_position_embeddings': 'query_embedding',
        **_layers(r'model\.encoder', 'encoder', _HF_SELF, _HF_FFN, _HF_NORMS),
        **_layers(
            r'model\.decoder',
            'decoder',
            _HF_SELF,
            {
                r'encoder_attn\.([qkv])_proj': r'cross_attn.attn.in_proj_<\2>',
                r'encoder_attn\.out_proj': 'cross_attn.attn.out_proj',
            },
            _HF_FFN,
            _HF_DECODER_NORMS,
        ),
        r'model\.decoder\.layernorm': 'decoder.post_norm',
        'class_labels_classifier': 'bbox_head.fc_cls',
        r'bbox_predictor\.layers\.0': 'bbox_head.reg_ffn.layers.0.0',
        r'bbox_predictor\.layers\.1': 'bbox_head.reg_ffn.layers.1',
        r'bbox_predictor\.layers\.2': 'bbox_head.fc_reg',
    },
    _hf_backbone(),
    finish=partial(_finish, background=True),
    settings=('class_rows',),
    needs=_needs,
    advice=_ADVICE,
)

#: transformers' ``DeformableDetrForObjectDetection``, before version 5.
HF_DEFORMABLE_DETR = Source(
    'Hugging Face DeformableDetrForObjectDetection',
    {
        r'model\.input_proj\.(\d+)\.0': r'neck.convs.\1.conv',
        r'model\.input_proj\.(\d+)\.1': r'neck.convs.\1.gn',
        r'model\.level_embed': 'level_embed',
        **_layers(
            r'model\.encoder',
            'encoder',
            _SELF_DEFORMABLE,
            _HF_FFN,
            _HF_NORMS,
        ),
        **_layers(
            r'model\.decoder',
            'decoder',
            _HF_SELF,
            {rf'encoder_attn\.{_DEFORMABLE}': r'cross_attn.\2'},
            _HF_FFN,
            _HF_DECODER_NORMS,
        ),
    },
    {
        **_hf_backbone(),
        r'model\.query_position_embeddings': 'query_embedding',
        r'model\.reference_points': 'reference_points_fc',
        r'class_embed\.(\d+)': r'bbox_head.cls_branches.\1',
        **_branches(r'bbox_embed\.(\d+)', r'\1'),
        **_under(r'model\.', _TWO_STAGE | _DECODER_HEADS),
    },
    finish=partial(_finish, objectness=True),
    settings=('class_rows',),
    needs=partial(_needs, offset=-0.5),
    advice=_ADVICE,
)

_V2_FFN = {
    r'ffns\.0\.(layers\.0\.0|layers\.1)': r'ffn.\2',
    r'norms\.(\d)': r'norms.\2',
}
_V2_SELF = {r'attentions\.0\.attn\.(in_proj_|out_proj)': r'self_attn.attn.\2'}
_V2 = r'bbox_head\.transformer\.'

#: DETR of mmdet 2.28 and its predecessors with the same names.
MMDET2_DETR = Source(
    'DETR of mmdet 2',
    {
        r'backbone\.(.+?)': r'backbone.\1',
        r'bbox_head\.input_proj': 'neck.convs.0.conv',
        r'bbox_head\.query_embedding': 'query_embedding',
        **_layers(rf'{_V2}encoder', 'encoder', _V2_SELF, _V2_FFN),
        **_layers(
            rf'{_V2}decoder',
            'decoder',
            _V2_SELF,
            {
                r'attentions\.1\.attn\.(in_proj_|out_proj)': (
                    r'cross_attn.attn.\2'
                )
            },
            _V2_FFN,
        ),
        rf'{_V2}decoder\.post_norm': 'decoder.post_norm',
        r'bbox_head\.(fc_cls|fc_reg|reg_ffn\.layers\.(?:0\.0|1))': (
            r'bbox_head.\1'
        ),
    },
    needs=_needs,
    advice=_ADVICE,
)

#: Deformable-DETR of mmdet 2.28, likewise.
MMDET2_DEFORMABLE_DETR = Source(
    'Deformable-DETR of mmdet 2',
    {
        r'(backbone|neck)\.(.+?)': r'\1.\2',
        rf'{_V2}level_embeds': 'level_embed',
        **_layers(
            rf'{_V2}encoder',
            'encoder',
            {rf'attentions\.0\.{_DEFORMABLE}': r'self_attn.\2'},
            _V2_FFN,
        ),
        **_layers(
            rf'{_V2}decoder',
            'decoder',
            _V2_SELF,
            {rf'attentions\.1\.{_DEFORMABLE}': r'cross_attn.\2'},
            _V2_FFN,
        ),
        r'bbox_head\.((?:cls|reg)_branches\.\d+(?:\.\d)?)': r'bbox_head.\1',
    },
    {
        r'bbox_head\.query_embedding': 'query_embedding',
        rf'{_V2}reference_points': 'reference_points_fc',
        **_under(_V2, _TWO_STAGE),
    },
    needs=partial(_needs, offset=-0.5),
    advice=_ADVICE,
)

#: DINO of OpenMMLab's mmdet 3, for OneDL's build of it.
MMDET3_DINO = Source(
    "DINO of OpenMMLab's mmdet",
    {
        r'(backbone|neck|encoder|bbox_head)\.(.+?)': r'\1.\2',
        r'decoder\.(layers\..+?|norm)': r'decoder.\1',
        r'decoder\.ref_point_head\.(.+?)': r'decoder.ref_point_head.\1',
        '(level_embed|query_embedding)': r'\1',
        '(memory_trans_fc|memory_trans_norm)': r'\1',
        r'dn_query_generator\.(label_embedding)': r'dn_query_generator.\1',
    },
    finish=_spread_positions,
    needs=partial(_needs, offset=0.0, temperature=20),
    advice=_ADVICE,
)
