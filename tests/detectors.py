"""Small versions of mmdet's DETR family, and random input for them.

Every detector is mmdet's own config, shrunk: ResNet-18 with 8 base channels,
2 + 2 Transformer layers of width 32 (256 where mmdet fixes it), few queries,
no dropout, nothing to download. Building one and training a step takes about
a second.
"""

import logging
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)

DETECTORS = {
    'deformable_detr': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'deformable_detr_refine': (
        'deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco'
    ),
    'deformable_detr_two_stage': (
        'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco'
    ),
    'detr': 'detr/detr_r50_8xb2-150e_coco',
    'conditional_detr': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco',
    'dab_detr': 'dab_detr/dab-detr_r50_8xb2-50e_coco',
    'dino': 'dino/dino-4scale_r50_8xb2-12e_coco',
    'ddq_detr': 'ddq/ddq-detr-4scale_r50_8xb2-12e_coco',
}
# mmdet's code encodes positions in 128 dimensions a coordinate for these.
FIXED_WIDTH = dict.fromkeys(
    ['deformable_detr_two_stage', 'conditional_detr', 'dino'], 256
)
DROPOUTS = ('dropout', 'ffn_drop', 'attn_drop', 'proj_drop')


def full_detector_config(name: str) -> ConfigDict:
    """mmdet's own model, without the download of its backbone."""
    model = get_config(f'mmdet::{DETECTORS[name]}.py').model
    model.backbone.init_cfg = None
    return model


def tiny_detector_config(
    name: str,
    num_classes: int = 4,
    width: int | None = None,
    dropout: float = 0.0,
) -> ConfigDict:
    """The ``model`` entry of a config, shrunk.

    Args:
        name: One of ``DETECTORS``.
        num_classes: Number of categories. Defaults to 4.
        width: Embedding dimensions, a multiple of 8. Defaults to None: 32,
            or what ``FIXED_WIDTH`` says.
        dropout: Every dropout probability. Defaults to 0.0.

    Returns:
        ConfigDict: To be built by ``mmdet.registry.MODELS``.
    """
    width = width or FIXED_WIDTH.get(name, 32)
    model = full_detector_config(name)
    channels = [8, 16, 32, 64]
    indices = model.backbone.out_indices
    _set_everywhere(
        model,
        num_layers=2,
        embed_dims=width,
        feedforward_channels=2 * width,
        num_feats=width // 2,
        num_queries=10,
        num_dn_queries=4,
        **dict.fromkeys(DROPOUTS, dropout),
    )
    model.backbone.update(depth=18, base_channels=channels[0])
    model.neck.update(
        in_channels=[channels[i] for i in indices], out_channels=width
    )
    if model.neck.norm_cfg:
        model.neck.norm_cfg.num_groups = 4
    model.bbox_head.update(num_classes=num_classes, embed_dims=width)
    model.test_cfg.max_per_img = 10
    if name == 'ddq_detr':
        model.dqs_cfg.iou_threshold = 0.4
    return model


def build_detector(
    name: str, num_classes: int = 4, seed: int = 0, **kwargs: Any
) -> nn.Module:
    """Build and initialise a small detector; the seed decides its weights.

    Args:
        name: One of ``DETECTORS``.
        num_classes: Number of categories. Defaults to 4.
        seed: Seed of torch's generator. Defaults to 0.
        **kwargs: See :func:`tiny_detector_config`.
    """
    init_default_scope('mmdet')
    torch.manual_seed(seed)
    model = MODELS.build(tiny_detector_config(name, num_classes, **kwargs))
    logging.disable(logging.INFO)  # a line per parameter
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    if name == 'ddq_detr':
        with_overlaps(model)
    return model


def with_overlaps(model: nn.Module) -> nn.Module:
    """Let boxes of a DDQ-DETR overlap, so that its layers leave queries out.

    Of the first four random images its second layer puts out 3, 10, 5 and 4
    of 10 queries.

    Args:
        model: A small DDQ-DETR, changed in place.
    """
    torch.manual_seed(1)
    for branch in model.bbox_head.cls_branches:
        nn.init.normal_(branch.weight)
    model.bbox_head.reg_branches[0][-1].bias.data[2:] = 5
    return model


def with_level_embed(model: nn.Module) -> nn.Module:
    """Initialise what mmdet leaves to chance without ``init_weights``.

    The level embedding of a Deformable-DETR is uninitialised memory, which
    is NaN now and then; the matching refuses it.

    Args:
        model: A ``ForgettingModel`` of a Deformable-DETR, changed in place.
    """
    nn.init.normal_(model.model.level_embed)
    return model


def random_batch(
    num_images: int = 2, num_classes: int = 4, size: int = 64, seed: int = 0
) -> dict[str, list]:
    """Random images with one to three boxes each, as a data loader's batch.

    Args:
        num_images: Number of images. Defaults to 2.
        num_classes: Labels are drawn below this number. Defaults to 4.
        size: Height and width in pixels. Defaults to 64.
        seed: Seed of the batch. Defaults to 0.

    Returns:
        dict[str, list]: ``inputs``, uint8 tensors (3, size, size), and
        ``data_samples`` with ground truth, for ``model.train_step``,
        ``model.test_step`` or ``model.data_preprocessor``.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, data_samples = [], []
    for img_id in range(num_images):
        inputs.append(
            torch.randint(
                256, (3, size, size), dtype=torch.uint8, generator=generator
            )
        )
        num_boxes = 1 + img_id % 3
        corner = torch.rand(num_boxes, 2, generator=generator) * size / 2
        extent = torch.rand(num_boxes, 2, generator=generator) * size / 4
        sample = DetDataSample(
            metainfo=dict(
                img_id=img_id,
                img_shape=(size, size),
                ori_shape=(size, size),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + extent + size / 8], 1),
            labels=torch.randint(
                num_classes, (num_boxes,), generator=generator
            ),
        )
        data_samples.append(sample)
    return dict(inputs=inputs, data_samples=data_samples)


def _set_everywhere(config: Any, **values: Any) -> None:
    """Overwrite the named entries wherever a nested config has them."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in values:
                config[key] = values[key]
            else:
                _set_everywhere(value, **values)
    elif isinstance(config, (list, tuple)):
        for item in config:
            _set_everywhere(item, **values)
