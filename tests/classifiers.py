"""Small versions of mmpretrain's ViT family, and random input for them.

Every classifier is mmpretrain's own config, shrunk: 2 Transformer layers of
width 32 (4 for Swin), 32 or 64 pixels, nothing to download. Building one and
training a step takes a fraction of a second.
"""

from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch import nn

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.utils.quiet import no_prints

CLASSIFIERS = {
    'vit': 'vision_transformer/vit-base-p16_64xb64_in1k',
    'deit': 'deit/deit-tiny_4xb256_in1k',
    'swin': 'swin_transformer/swin-tiny_16xb64_in1k',
    'beit': 'beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k',
    'mae': 'mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k',
    'eva': 'eva/eva-g-p14_8xb16_in1k-336px',
    'eva02': 'eva02/eva02-tiny-p14_in1k',
}
SIZES = dict.fromkeys(CLASSIFIERS, 32) | {'swin': 64}
WIDTH = 32
ARCH = dict(
    embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=64
)
SWIN_ARCH = dict(
    embed_dims=WIDTH // 8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]
)


def tiny_classifier_config(name: str, num_classes: int = 4) -> ConfigDict:
    """The ``model`` entry of a config, shrunk, with its data preprocessor.

    Batch augmentations are those of mmpretrain's config (``train_cfg``).

    Args:
        name: One of ``CLASSIFIERS``.
        num_classes: Number of classes. Defaults to 4.

    Returns:
        ConfigDict: To be built by ``mmpretrain.registry.MODELS``.
    """
    config = get_config(f'mmpretrain::{CLASSIFIERS[name]}.py')
    model = config.model
    model.backbone.update(
        arch=SWIN_ARCH if name == 'swin' else ARCH,
        img_size=SIZES[name],
        drop_rate=0.0,
        drop_path_rate=0.0,
        init_cfg=None,
    )
    if name == 'swin':
        model.backbone.pad_small_map = True
    else:
        model.backbone.patch_size = 8
    model.head.update(num_classes=num_classes, in_channels=WIDTH)
    if 'hidden_dim' in model.head:
        model.head.hidden_dim = 48
    model.data_preprocessor = config.data_preprocessor
    model.data_preprocessor.num_classes = num_classes
    return model


def build_classifier(
    name: str, num_classes: int = 4, seed: int = 0, **head: Any
) -> nn.Module:
    """Build a small classifier; the seed decides its weights.

    Args:
        name: One of ``CLASSIFIERS``.
        num_classes: Number of classes. Defaults to 4.
        seed: Seed of torch's generator. Defaults to 0.
        **head: Entries of the head that differ.

    Returns:
        nn.Module: Without batch augmentations, but with one-hot labels.
    """
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    config = tiny_classifier_config(name, num_classes)
    config.pop('train_cfg')
    config.data_preprocessor.to_onehot = True
    for key, value in head.items():
        config.head[key] = value
    with no_prints():
        model = MODELS.build(config)
    return randomise(model, seed)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all parameters: some of mmpretrain's start at 0 or nearly."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return model


def random_images(
    num_images: int = 4,
    num_classes: int = 4,
    size: int = 32,
    seed: int = 0,
) -> dict[str, Any]:
    """Random images with a class each, as a data loader's batch.

    Args:
        num_images: Number of images. Defaults to 4.
        num_classes: Labels are drawn below this number. Defaults to 4.
        size: Height and width in pixels. Defaults to 32.
        seed: Seed of the batch. Defaults to 0.

    Returns:
        dict: ``inputs``, uint8 (num_images, 3, size, size), and
        ``data_samples`` with ground truth, for ``model.train_step``,
        ``model.test_step`` or ``model.data_preprocessor``.
    """
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(
        256,
        (num_images, 3, size, size),
        dtype=torch.uint8,
        generator=generator,
    )
    labels = torch.randint(num_classes, (num_images,), generator=generator)
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    return dict(inputs=inputs, data_samples=samples)
