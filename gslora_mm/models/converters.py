"""State dicts of other code bases, as mmpretrain's classifiers name them.

Only tensors are renamed, reshaped and scaled; no model is built. Whatever has
no counterpart is refused: a checkpoint that is read in part is another model.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping

from torch import Tensor

from gslora_mm.utils import ConfigError

StateDict = Mapping[str, Tensor]

_BLOCK = r'transformer\.layers\.(\d+)'
#: Keys of Face-Transformer's class ``ViT_face``, as regular expressions.
FACE_TRANSFORMER = {
    r'pos_embedding': 'backbone.pos_embed',
    r'cls_token': 'backbone.cls_token',
    r'patch_to_embedding': 'backbone.patch_embed.projection',
    rf'{_BLOCK}\.0\.fn\.norm': r'backbone.layers.\1.ln1',
    rf'{_BLOCK}\.0\.fn\.fn\.to_qkv': r'backbone.layers.\1.attn.qkv',
    rf'{_BLOCK}\.0\.fn\.fn\.to_out\.0': r'backbone.layers.\1.attn.proj',
    rf'{_BLOCK}\.1\.fn\.norm': r'backbone.layers.\1.ln2',
    rf'{_BLOCK}\.1\.fn\.fn\.net\.0': r'backbone.layers.\1.ffn.layers.0.0',
    rf'{_BLOCK}\.1\.fn\.fn\.net\.3': r'backbone.layers.\1.ffn.layers.1',
    r'mlp_head\.0': 'backbone.ln1',
    r'loss': 'head.norm_product',
}

_LAYER = r'encoder\.layers\.encoder_layer_(\d+)'
#: Keys of torchvision's ``VisionTransformer``. Those of its MLP changed with
#: version 0.12 from ``linear_1`` and ``linear_2``, which the published files
#: still have, to ``0`` and ``3``.
TORCHVISION_VIT = {
    r'class_token': 'backbone.cls_token',
    r'conv_proj': 'backbone.patch_embed.projection',
    r'encoder\.pos_embedding': 'backbone.pos_embed',
    rf'{_LAYER}\.ln_1': r'backbone.layers.\1.ln1',
    rf'{_LAYER}\.self_attention\.in_proj': r'backbone.layers.\1.attn.qkv',
    rf'{_LAYER}\.self_attention\.out_proj': r'backbone.layers.\1.attn.proj',
    rf'{_LAYER}\.ln_2': r'backbone.layers.\1.ln2',
    rf'{_LAYER}\.mlp\.(?:0|linear_1)': r'backbone.layers.\1.ffn.layers.0.0',
    rf'{_LAYER}\.mlp\.(?:3|linear_2)': r'backbone.layers.\1.ffn.layers.1',
    r'encoder\.ln': 'backbone.ln1',
    r'heads\.(pre_logits|head)': r'head.layers.\1',
}


def convert_face_transformer(
    state_dict: StateDict, num_heads: int = 8
) -> 'OrderedDict[str, Tensor]':
    """Rename the weights of a Face Transformer (class ``ViT_face``).

    Source of the names: https://github.com/zhongyy/Face-Transformer (Zhong
    and Deng, arXiv 2103.14803), whose model the GS-LoRA papers use. Three
    things differ from mmpretrain's ``VisionTransformer``:

    * A patch is a vector in the order row, column, channel, and a linear
      layer stands where mmpretrain has a convolution.
    * Attention is scaled by ``width ** -0.5``, not by the width of a head.
      The difference, a factor of ``num_heads ** -0.5``, goes into the weight
      of the queries.
    * The class weights of the margin loss are ``loss.weight``.

    Args:
        state_dict (Mapping[str, Tensor]): With the class weights.
        num_heads (int): Heads of the attention, which no weight shows.
            Defaults to 8.

    Returns:
        OrderedDict[str, Tensor]: For an ``ImageClassifier`` with a
        ``VisionTransformer`` (``qkv_bias=False``, epsilon of the norms
        1e-5) and a ``CosFaceClsHead`` or ``ArcFaceClsHead``.

    Raises:
        ConfigError: If keys are unknown or missing, or shapes do not fit.
    """
    out = rename_keys(state_dict, FACE_TRANSFORMER, 'Face Transformer')
    if 'head.norm_product.bias' in out:
        raise ConfigError(
            'loss.bias',
            valid='the checkpoint has an ordinary linear classifier '
            '(--head Softmax); only heads that tell classes by the cosine '
            '(CosFace, ArcFace) can be converted',
        )
    key = 'backbone.patch_embed.projection.weight'
    width, length = out[key].shape
    side = math.isqrt(length // 3)
    if 3 * side**2 != length:
        raise ConfigError(
            'patch_to_embedding.weight',
            valid=f'{tuple(out[key].shape)}; the second size must be that of '
            'a square patch with three channels, such as 192 = 8 * 8 * 3',
        )
    out[key] = (
        out[key].reshape(width, side, side, 3).permute(0, 3, 1, 2).contiguous()
    )
    if num_heads < 1 or width % num_heads:
        raise ConfigError(
            'num_heads', num_heads, f'must divide the width {width}'
        )
    for key in [name for name in out if name.endswith('.attn.qkv.weight')]:
        if out[key].shape != (3 * width, width):
            raise ConfigError(
                'to_qkv.weight',
                valid=f'{tuple(out[key].shape)}; must be '
                f'{(3 * width, width)}: mmpretrain has no attention whose '
                'heads together are wider or narrower than the model',
            )
        out[key] = out[key].clone()
        out[key][:width] *= num_heads**-0.5
    return out


def convert_torchvision_vit(
    state_dict: StateDict,
) -> 'OrderedDict[str, Tensor]':
    """Rename the weights of a torchvision ``VisionTransformer``.

    Such as those of ``torchvision.models.vit_b_16``, with the MLP keys of
    any version. Both take images that are normalised with ImageNet's mean
    and standard deviation.

    Args:
        state_dict (Mapping[str, Tensor]): With the classifier.

    Returns:
        OrderedDict[str, Tensor]: For an ``ImageClassifier`` with a
        ``VisionTransformer`` and a ``VisionTransformerClsHead`` (without
        hidden layer, unless the file has ``heads.pre_logits``).

    Raises:
        ConfigError: If keys are unknown or missing.
    """
    flat = OrderedDict(
        (re.sub(r'\.in_proj_(weight|bias)$', r'.in_proj.\1', key), value)
        for key, value in state_dict.items()
    )
    return rename_keys(flat, TORCHVISION_VIT, 'torchvision ViT')


#: What tools/model_tools/convert_checkpoint.py can read, by name.
CONVERTERS: dict[str, Callable[..., 'OrderedDict[str, Tensor]']] = {
    'face_transformer': convert_face_transformer,
    'torchvision_vit': convert_torchvision_vit,
}


def rename_keys(
    state_dict: StateDict, names: Mapping[str, str], what: str
) -> 'OrderedDict[str, Tensor]':
    """Rename every key, or refuse the whole state dict."""
    patterns = [
        (re.compile(rf'{pattern}(\.weight|\.bias|)'), target)
        for pattern, target in names.items()
    ]
    out: OrderedDict[str, Tensor] = OrderedDict()
    unknown, met = [], set()
    for key, value in state_dict.items():
        for pattern, target in patterns:
            if match := pattern.fullmatch(key):
                met.add(target)
                suffix = match[match.lastindex]
                out[match.expand(target) + suffix] = value
                break
        else:
            unknown.append(key)
    hint = ''
    if any('lora_' in key for key in unknown):
        hint = (
            '. It holds LoRA matrices beside the weights; save the model '
            'after merging them'
        )
    missing = [
        pattern
        for pattern, target in names.items()
        if target not in met and 'pre_logits' not in pattern
    ]
    if unknown or missing:
        raise ConfigError(
            f'the checkpoint is not that of a {what}: {len(unknown)} unknown '
            f'keys {unknown[:3]}, {len(missing)} without a match '
            f'{missing[:3]}{hint}'
        )
    return out
