"""Halves of random batches, read through a task."""

import torch
from mmengine.registry import init_default_scope
from torch import nn

from gslora_mm.tasks import BaseTask, DetectionTask
from tests.classifiers import (
    random_images,
    randomise,
    tiny_classifier_config,
)
from tests.detectors import random_batch

ARC_FACE = dict(
    type='ArcFaceClsHead',
    num_classes=4,
    in_channels=32,
    loss=dict(type='CrossEntropyLoss'),
)


def halves_of(task: BaseTask, model: nn.Module, size: int = 32) -> tuple:
    """Read two random images as the forget half, two more as the retain half.

    Args:
        task: Of which the model is.
        model: A small detector or classifier.
        size: Height and width of a classifier's images. Defaults to 32.

    Returns:
        tuple: The halves by role, inputs and data samples of the batch.
    """
    images = (
        random_batch(4)
        if isinstance(task, DetectionTask)
        else random_images(4, size=size)
    )
    batch = model.data_preprocessor(images, training=True)
    inputs, samples = batch['inputs'], batch['data_samples']
    features = task.extract(model, inputs)
    halves = {
        role: task.half(model, inputs, features, samples, index, role)
        for role, index in zip(
            ('forget', 'retain'), torch.arange(4).chunk(2), strict=True
        )
    }
    return halves, inputs, samples


def arc_face(num_subcenters=1):
    """A small classifier under an ArcFace head."""
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    config = tiny_classifier_config('deit')
    config.head = dict(ARC_FACE, num_subcenters=num_subcenters)
    config.pop('train_cfg')
    return randomise(MODELS.build(config))
