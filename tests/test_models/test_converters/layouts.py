"""Keys and shapes of small checkpoints as other code bases write them.

Written down from the code bases' own definitions, not from the converters.
tests/test_models/test_converters/test_packages.py compares those of packages
with the packages.
"""

import re

import torch
from torch import Tensor

CLASSES, QUERIES, LAYERS, HEADS, WIDTH = 5, 10, 2, 8, 256
Layout = dict[str, tuple[int, ...]]


def draw(layout: Layout, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of moderate size; a decoder has the model's heads."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in layout.items():
        shared = re.sub(r'^(transformer|model)\.decoder\.', '', key)
        if shared in state:
            state[key] = state[shared]
            continue
        value = torch.randn(shape, generator=generator)
        if key.endswith('running_var'):
            value = 0.5 + value.abs()
        elif len(shape) > 1:
            value *= value[0].numel() ** -0.5
        else:
            value = value * 0.2 + float(key.endswith('weight'))
        state[key] = value
    return state


def under(prefix: str, *layouts: Layout) -> Layout:
    return {
        f'{prefix}{key}': shape
        for layout in layouts
        for key, shape in layout.items()
    }


def linear(name: str, rows: int, *columns: int) -> Layout:
    """Weight and bias, of a convolution too."""
    return {f'{name}.weight': (rows, *columns), f'{name}.bias': (rows,)}


def norm(name: str, width: int = WIDTH, frozen: bool = False) -> Layout:
    layout = linear(name, width, 1)
    layout[f'{name}.weight'] = (width,)
    for statistic in ('running_mean', 'running_var') if frozen else ():
        layout[f'{name}.{statistic}'] = (width,)
    return layout


def resnet18(hf: bool = False) -> Layout:
    """With 8 channels and frozen batch norms; of torchvision or HF."""

    def block(place: str, conv: str, bn: str, *shape: int) -> Layout:
        return {
            f'{place}{conv}.weight': shape,
            **norm(f'{place}{bn}', shape[0], frozen=True),
        }

    c, n = 'convolution', 'normalization'
    if hf:
        layout = block('embedder.embedder.', c, n, 8, 3, 7, 7)
    else:
        layout = block('', 'conv1', 'bn1', 8, 3, 7, 7)
    before = 8
    for i, after in enumerate((8, 16, 32, 64)):
        for j in range(2):
            ours = f'layer{i + 1}.{j}.'
            theirs = f'encoder.stages.{i}.layers.{j}.'
            for k, width in enumerate((before, after)):
                shape = (after, width, 3, 3)
                if hf:
                    layout |= block(f'{theirs}layer.{k}.', c, n, *shape)
                else:
                    names = f'conv{k + 1}', f'bn{k + 1}'
                    layout |= block(ours, *names, *shape)
            if before != after:
                shape = (after, before, 1, 1)
                if hf:
                    layout |= block(f'{theirs}shortcut.', c, n, *shape)
                else:
                    names = 'downsample.0', 'downsample.1'
                    layout |= block(ours, *names, *shape)
            before = after
    return layout


def attention(name: str, hf: bool = False) -> Layout:
    if hf:
        letters = [f'{name}.{letter}_proj' for letter in 'kvq']
        parts = [linear(letter, WIDTH, WIDTH) for letter in letters]
    else:
        fused = linear(f'{name}.in_proj', 3 * WIDTH, WIDTH)
        parts = [{k.replace('proj.', 'proj_'): v for k, v in fused.items()}]
    return under('', *parts, linear(f'{name}.out_proj', WIDTH, WIDTH))


def deformable_attention(name: str) -> Layout:
    points = HEADS * 4 * 4  # levels, points
    return (
        linear(f'{name}.sampling_offsets', 2 * points, WIDTH)
        | linear(f'{name}.attention_weights', points, WIDTH)
        | linear(f'{name}.value_proj', WIDTH, WIDTH)
        | linear(f'{name}.output_proj', WIDTH, WIDTH)
    )


def layers(name: str, *parts: Layout, ffn: tuple[str, str]) -> Layout:
    parts += (
        linear(ffn[0], 2 * WIDTH, WIDTH),
        linear(ffn[1], WIDTH, 2 * WIDTH),
    )
    return under(
        '', *(under(f'{name}.layers.{i}.', *parts) for i in range(LAYERS))
    )


def mlp(name: str, *widths: int) -> Layout:
    pairs = zip(widths[1:], widths[:-1], strict=True)
    return under(
        f'{name}.layers.',
        *(linear(str(i), *pair) for i, pair in enumerate(pairs)),
    )


def box_head(name: str) -> Layout:
    return mlp(name, WIDTH, WIDTH, WIDTH, 4)


def input_proj() -> Layout:
    sizes = [(16, 1), (32, 1), (64, 1), (64, 3)]
    return under(
        'input_proj.',
        *(
            linear(f'{i}.0', WIDTH, channels, kernel, kernel) | norm(f'{i}.1')
            for i, (channels, kernel) in enumerate(sizes)
        ),
    )


def norms(*names: str) -> Layout:
    return under('', *map(norm, names))


ORIGINAL_FFN = ('linear1', 'linear2')
HF_FFN = ('fc1', 'fc2')
HF_NORMS = 'self_attn_layer_norm', 'final_layer_norm'


def detr(classes: int = CLASSES) -> Layout:
    """``models/detr.py``, ``models/transformer.py``."""
    return under(
        '',
        layers(
            'transformer.encoder',
            attention('self_attn'),
            norms('norm1', 'norm2'),
            ffn=ORIGINAL_FFN,
        ),
        layers(
            'transformer.decoder',
            attention('self_attn'),
            attention('multihead_attn'),
            norms('norm1', 'norm2', 'norm3'),
            ffn=ORIGINAL_FFN,
        ),
        norm('transformer.decoder.norm'),
        linear('class_embed', classes + 1, WIDTH),
        box_head('bbox_embed'),
        {'query_embed.weight': (QUERIES, WIDTH)},
        linear('input_proj', WIDTH, 64, 1, 1),
        under('backbone.0.body.', resnet18()),
    )


def hf_detr(classes: int = CLASSES) -> Layout:
    """``DetrForObjectDetection``."""
    return under(
        '',
        under('model.backbone.conv_encoder.model.', resnet18(hf=True)),
        linear('model.input_projection', WIDTH, 64, 1, 1),
        {'model.query_position_embeddings.weight': (QUERIES, WIDTH)},
        layers(
            'model.encoder',
            attention('self_attn', hf=True),
            norms(*HF_NORMS),
            ffn=HF_FFN,
        ),
        layers(
            'model.decoder',
            attention('self_attn', hf=True),
            attention('encoder_attn', hf=True),
            norms(*HF_NORMS, 'encoder_attn_layer_norm'),
            ffn=HF_FFN,
        ),
        norm('model.decoder.layernorm'),
        linear('class_labels_classifier', classes + 1, WIDTH),
        box_head('bbox_predictor'),
    )


def heads(number: int, classes: int, prefix: str = '') -> Layout:
    return under(
        prefix,
        *(linear(f'class_embed.{i}', classes, WIDTH) for i in range(number)),
        *(box_head(f'bbox_embed.{i}') for i in range(number)),
    )


def _deformable(classes: int, number: int) -> Layout:
    """What Deformable-DETR and DINO have in common."""
    return under(
        '',
        {'transformer.level_embed': (4, WIDTH)},
        layers(
            'transformer.encoder',
            deformable_attention('self_attn'),
            norms('norm1', 'norm2'),
            ffn=ORIGINAL_FFN,
        ),
        layers(
            'transformer.decoder',
            deformable_attention('cross_attn'),
            attention('self_attn'),
            norms('norm1', 'norm2', 'norm3'),
            ffn=ORIGINAL_FFN,
        ),
        input_proj(),
        under('backbone.0.body.', resnet18()),
        heads(number, classes),
    )


def two_stage(prefix: str) -> Layout:
    return under(
        prefix,
        linear('enc_output', WIDTH, WIDTH),
        norm('enc_output_norm'),
        linear('pos_trans', 2 * WIDTH, 2 * WIDTH),
        norm('pos_trans_norm', 2 * WIDTH),
    )


def one_stage(queries: str, points: str) -> Layout:
    return {f'{queries}.weight': (QUERIES, 2 * WIDTH)} | linear(
        points, 2, WIDTH
    )


def deformable_detr(
    classes: int = CLASSES, stages: int = 1, refine: bool = False
) -> Layout:
    """``models/deformable_detr.py``, ``models/deformable_transformer.py``."""
    number = LAYERS + stages - 1
    decoder = heads(number, classes, 'transformer.decoder.')
    kinds = ['bbox_embed'] * refine + ['class_embed'] * (stages == 2)
    return under(
        '',
        _deformable(classes, number),
        {k: v for k, v in decoder.items() if any(n in k for n in kinds)},
        two_stage('transformer.')
        if stages == 2
        else one_stage('query_embed', 'transformer.reference_points'),
    )


def hf_deformable_detr(
    classes: int = CLASSES, stages: int = 1, refine: bool = False
) -> Layout:
    """``DeformableDetrForObjectDetection``."""
    number = LAYERS + stages - 1
    decoder = heads(number, classes, 'model.decoder.')
    kinds = ['bbox_embed'] * refine + ['class_embed'] * (stages == 2)
    return under(
        '',
        {'model.level_embed': (4, WIDTH)},
        under('model.backbone.conv_encoder.model.', resnet18(hf=True)),
        under('model.', input_proj()),
        layers(
            'model.encoder',
            deformable_attention('self_attn'),
            norms(*HF_NORMS),
            ffn=HF_FFN,
        ),
        layers(
            'model.decoder',
            attention('self_attn', hf=True),
            deformable_attention('encoder_attn'),
            norms(*HF_NORMS, 'encoder_attn_layer_norm'),
            ffn=HF_FFN,
        ),
        heads(number, classes),
        {k: v for k, v in decoder.items() if any(n in k for n in kinds)},
        two_stage('model.')
        if stages == 2
        else one_stage(
            'model.query_position_embeddings', 'model.reference_points'
        ),
    )


def dino(classes: int = CLASSES) -> Layout:
    """``models/dino/``, with the published settings."""
    return under(
        '',
        _deformable(classes, LAYERS),
        heads(LAYERS, classes, 'transformer.decoder.'),
        norm('transformer.decoder.norm'),
        mlp('transformer.decoder.ref_point_head', 2 * WIDTH, WIDTH, WIDTH),
        linear('transformer.enc_output', WIDTH, WIDTH),
        norm('transformer.enc_output_norm'),
        box_head('transformer.enc_out_bbox_embed'),
        linear('transformer.enc_out_class_embed', classes, WIDTH),
        {
            'transformer.tgt_embed.weight': (QUERIES, WIDTH),
            'label_enc.weight': (classes + 1, WIDTH),
        },
    )
