"""Data of a forgetting sequence: class order, subsets, replay, batches."""

from .build import build_dataset, check_class_names, parts_of_dataset
from .class_order import ClassOrder, class_order
from .class_subset import ClassSubset
from .forget_retain import ForgetRetainDataset
from .image_files import check_images
from .imagenet_100 import ImageNet100
from .joined import JoinedDataset
from .label_table import LabelTable
from .plain_config import drawn_dataset, parts_of, plain_dataset, type_name
from .replay import select_images
from .sampler import ForgetRetainSampler

__all__ = [
    'ClassOrder',
    'ClassSubset',
    'ForgetRetainDataset',
    'ForgetRetainSampler',
    'ImageNet100',
    'JoinedDataset',
    'LabelTable',
    'build_dataset',
    'check_class_names',
    'check_images',
    'class_order',
    'drawn_dataset',
    'parts_of',
    'parts_of_dataset',
    'plain_dataset',
    'select_images',
    'type_name',
]
