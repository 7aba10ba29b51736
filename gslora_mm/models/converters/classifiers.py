"""Classifiers of other code bases, as mmpretrain names them."""

import math
from typing import Any

from gslora_mm.utils import ConfigError
from .source import Source, StateDict

_PIXELS = 'data_preprocessor: to_rgb=True, with mean and std as in training: '
_HEADS = (
    'model.backbone.arch: its num_heads as in training, no tensor shows it'
)


def _layers(source: str, names: dict[str, str]) -> dict[str, str]:
    return {
        rf'{source}\.{name}': rf'backbone.layers.\1.{target}'
        for name, target in names.items()
    }


def _vit_needs(state_dict: StateDict, **more: Any) -> dict[str, Any]:
    """Read off what a ``VisionTransformer`` of mmpretrain has to be."""
    patch = state_dict['backbone.patch_embed.projection.weight'].shape[-1]
    tokens = state_dict['backbone.pos_embed'].shape[1] - 1
    heads = [key for key in state_dict if key.startswith('head.')]
    needs = {
        'model.backbone.patch_size': patch,
        'model.backbone.img_size': patch * math.isqrt(tokens),
        'model.head.num_classes': len(state_dict[heads[-1]]),
    }
    if 'backbone.layers.0.attn.qkv.bias' not in state_dict:
        needs['model.backbone.qkv_bias'] = False
    if 'backbone.layers.0.attn.gamma1.weight' in state_dict:
        needs['model.backbone.layer_scale_init_value'] = 1e-5
    if 'backbone.ln2.weight' in state_dict:
        needs['model.backbone.out_type'] = 'avg_featmap'
        needs['model.backbone.final_norm'] = False
    return needs | more


def _check_tokens(state_dict: StateDict) -> None:
    """Refuse images that are no squares, and other tokens than one more.

    mmpretrain would resize such positions without a word.
    """
    shape = tuple(state_dict['backbone.pos_embed'].shape)
    if math.isqrt(shape[1] - 1) ** 2 != shape[1] - 1:
        raise ConfigError(
            f'the checkpoint has positions of shape {shape}; valid are those '
            'of a square of patches and one class token before them'
        )


def _finish_face_transformer(
    state_dict: StateDict, num_heads: int = 8
) -> None:
    """Turn patches into a convolution, and scale the queries.

    Three things differ from mmpretrain's ``VisionTransformer``:

    * A patch is a vector in the order row, column, channel, and a linear
      layer stands where mmpretrain has a convolution.
    * Attention is scaled by ``width ** -0.5``, not by the width of a head.
      The difference, a factor of ``num_heads ** -0.5``, goes into the weight
      of the queries.
    * The class weights of the margin loss are ``loss.weight``.

    Args:
        state_dict (dict[str, Tensor]): Changed in place.
        num_heads (int): Heads of the attention, which no weight shows.
            Defaults to 8.

    Raises:
        ConfigError: If shapes do not fit.
    """
    if 'head.norm_product.bias' in state_dict:
        raise ConfigError(
            'loss.bias',
            valid='the checkpoint has an ordinary linear classifier '
            '(--head Softmax); only heads that tell classes by the cosine '
            '(CosFace, ArcFace) can be converted',
        )
    key = 'backbone.patch_embed.projection.weight'
    patches = state_dict[key]
    width, length = patches.shape
    side = math.isqrt(length // 3)
    if 3 * side**2 != length:
        raise ConfigError(
            'patch_to_embedding.weight',
            valid=f'{tuple(patches.shape)}; the second size must be that of '
            'a square patch with three channels, such as 192 = 8 * 8 * 3',
        )
    patches = patches.reshape(width, side, side, 3).permute(0, 3, 1, 2)
    state_dict[key] = patches.contiguous()
    if num_heads < 1 or width % num_heads:
        raise ConfigError(
            'num_heads', num_heads, f'must divide the width {width}'
        )
    for key, value in state_dict.items():
        if not key.endswith('.attn.qkv.weight'):
            continue
        if value.shape != (3 * width, width):
            raise ConfigError(
                'to_qkv.weight',
                valid=f'{tuple(value.shape)}; must be '
                f'{(3 * width, width)}: mmpretrain has no attention whose '
                'heads together are wider or narrower than the model',
            )
        state_dict[key] = value.clone()
        state_dict[key][:width] *= num_heads**-0.5


#: https://github.com/zhongyy/Face-Transformer (Zhong and Deng, arXiv
#: 2103.14803), whose class ``ViT_face`` the GS-LoRA papers use.
FACE_TRANSFORMER = Source(
    'Face Transformer',
    {
        'pos_embedding': 'backbone.pos_embed',
        'cls_token': 'backbone.cls_token',
        'patch_to_embedding': 'backbone.patch_embed.projection',
        **_layers(
            r'transformer\.layers\.(\d+)',
            {
                r'0\.fn\.norm': 'ln1',
                r'0\.fn\.fn\.to_qkv': 'attn.qkv',
                r'0\.fn\.fn\.to_out\.0': 'attn.proj',
                r'1\.fn\.norm': 'ln2',
                r'1\.fn\.fn\.net\.0': 'ffn.layers.0.0',
                r'1\.fn\.fn\.net\.3': 'ffn.layers.1',
            },
        ),
        r'mlp_head\.0': 'backbone.ln1',
        'loss': 'head.norm_product',
    },
    finish=_finish_face_transformer,
    settings=('num_heads',),
    needs=lambda state: _vit_needs(
        state,
        **{'model.backbone.norm_cfg': dict(type='LN', eps=1e-5)},
    ),
    advice=(
        "model.head.type = 'gslora_mm.CosFaceClsHead' or 'ArcFaceClsHead'",
        'model.backbone.arch: num_heads as given with --num-heads',
    ),
)

#: torchvision's ``VisionTransformer``. The names in its MLP changed with
#: version 0.12 from ``linear_1`` and ``linear_2``, which the published files
#: still have, to ``0`` and ``3``.
TORCHVISION_VIT = Source(
    'torchvision ViT',
    {
        'class_token': 'backbone.cls_token',
        'conv_proj': 'backbone.patch_embed.projection',
        r'encoder\.pos_embedding': 'backbone.pos_embed',
        **_layers(
            r'encoder\.layers\.encoder_layer_(\d+)',
            {
                'ln_1': 'ln1',
                r'self_attention\.in_proj_': 'attn.qkv.',
                r'self_attention\.out_proj': 'attn.proj',
                'ln_2': 'ln2',
                r'mlp\.(?:0|linear_1)': 'ffn.layers.0.0',
                r'mlp\.(?:3|linear_2)': 'ffn.layers.1',
            },
        ),
        r'encoder\.ln': 'backbone.ln1',
        r'heads\.head': 'head.layers.head',
    },
    {r'heads\.pre_logits': 'head.layers.pre_logits'},
    finish=_check_tokens,
    needs=_vit_needs,
    advice=(
        _PIXELS + "ImageNet's for torchvision's own, "
        'mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]',
        _HEADS,
    ),
)

#: timm's ``VisionTransformer``, which DeiT's repository has the names of.
TIMM_VIT = Source(
    'timm ViT',
    {
        'cls_token': 'backbone.cls_token',
        'pos_embed': 'backbone.pos_embed',
        r'patch_embed\.proj': 'backbone.patch_embed.projection',
        **_layers(
            r'blocks\.(\d+)',
            {
                'norm1': 'ln1',
                r'attn\.qkv': 'attn.qkv',
                r'attn\.proj': 'attn.proj',
                'norm2': 'ln2',
                r'mlp\.fc1': 'ffn.layers.0.0',
                r'mlp\.fc2': 'ffn.layers.1',
            },
        ),
        'head': 'head.layers.head',
    },
    {
        'norm': 'backbone.ln1',
        'fc_norm': 'backbone.ln2',
        **_layers(
            r'blocks\.(\d+)',
            {
                r'ls1\.gamma': 'attn.gamma1.weight',
                r'ls2\.gamma': 'ffn.gamma2.weight',
            },
        ),
    },
    finish=_check_tokens,
    needs=_vit_needs,
    advice=(
        _PIXELS + 'timm.data.resolve_model_data_config(model) gives '
        'them as parts of 255, often 0.5 (127.5 here)',
        _HEADS,
    ),
)

#: transformers' ``ViTForImageClassification``, before version 5.
HF_VIT = Source(
    'Hugging Face ViTForImageClassification',
    {
        r'vit\.embeddings\.cls_token': 'backbone.cls_token',
        r'vit\.embeddings\.position_embeddings': 'backbone.pos_embed',
        r'vit\.embeddings\.patch_embeddings\.projection': (
            'backbone.patch_embed.projection'
        ),
        **_layers(
            r'vit\.encoder\.layer\.(\d+)',
            {
                'layernorm_before': 'ln1',
                r'attention\.attention\.(query|key|value)': r'attn.qkv.<\2>',
                r'attention\.output\.dense': 'attn.proj',
                'layernorm_after': 'ln2',
                r'intermediate\.dense': 'ffn.layers.0.0',
                r'output\.dense': 'ffn.layers.1',
            },
        ),
        r'vit\.layernorm': 'backbone.ln1',
        'classifier': 'head.layers.head',
    },
    finish=_check_tokens,
    needs=lambda state: _vit_needs(
        state,
        **{'model.backbone.norm_cfg': dict(type='LN', eps=1e-12)},
    ),
    advice=(
        _PIXELS + 'preprocessor_config.json has them as parts of 255, '
        'mostly 0.5 (127.5 here)',
        _HEADS,
    ),
)
