"""Data of a forgetting sequence: class order, subsets, replay, batches."""

from .build import build_dataset
from .class_order import ClassOrder, class_order
from .class_subset import ClassSubset
from .forget_retain import ForgetRetainDataset
from .label_table import LabelTable
from .mini_coco import MINI_COCO_CLASSES, make_mini_coco
from .replay import select_images
from .sampler import ForgetRetainSampler

__all__ = [
    'MINI_COCO_CLASSES',
    'ClassOrder',
    'ClassSubset',
    'ForgetRetainDataset',
    'ForgetRetainSampler',
    'LabelTable',
    'build_dataset',
    'class_order',
    'make_mini_coco',
    'select_images',
]
