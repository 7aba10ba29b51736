"""Data of a forgetting sequence: class order, subsets, replay, batches."""

from .build import build_dataset
from .class_order import ClassOrder, class_order
from .class_subset import ClassSubset
from .forget_retain import ForgetRetainDataset
from .imagenet_100 import ImageNet100
from .label_table import LabelTable
from .mini_coco import MINI_COCO_CLASSES, make_mini_coco
from .mini_digits import MINI_DIGITS_CLASSES, make_mini_digits
from .mini_faces import MINI_FACES_CLASSES, make_mini_faces
from .replay import select_images
from .sampler import ForgetRetainSampler

__all__ = [
    'MINI_COCO_CLASSES',
    'MINI_DIGITS_CLASSES',
    'MINI_FACES_CLASSES',
    'ClassOrder',
    'ClassSubset',
    'ForgetRetainDataset',
    'ForgetRetainSampler',
    'ImageNet100',
    'LabelTable',
    'build_dataset',
    'class_order',
    'make_mini_coco',
    'make_mini_digits',
    'make_mini_faces',
    'select_images',
]
