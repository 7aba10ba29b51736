"""Data of a forgetting sequence: class order, subsets, replay, batches."""

from .build import build_dataset, check_class_names
from .class_order import ClassOrder, class_order
from .class_subset import ClassSubset
from .forget_retain import ForgetRetainDataset
from .imagenet_100 import ImageNet100
from .label_table import LabelTable
from .replay import select_images
from .sampler import ForgetRetainSampler

__all__ = [
    'ClassOrder',
    'ClassSubset',
    'ForgetRetainDataset',
    'ForgetRetainSampler',
    'ImageNet100',
    'LabelTable',
    'build_dataset',
    'check_class_names',
    'class_order',
    'select_images',
]
