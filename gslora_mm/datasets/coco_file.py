"""COCO data of which labels are told by names."""

import collections
import pickle
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.fileio import get_local_path

from gslora_mm.registry import DATASETS
from gslora_mm.utils.coco_annotations import ids_by_name, read_annotations
from gslora_mm.utils.garbage import no_search_for_garbage
from gslora_mm.utils.sharing import shared
from .label_table import Objects, objects_of


@DATASETS.register_module()
class NamedCocoDataset(CocoDataset):
    """mmdet's CocoDataset for the files that people really have.

    Labels are positions in ``metainfo.classes``, whatever the order of the
    categories in the file, and whether it has all of them; mmdet numbers
    those that it finds. Where the file lists exactly the classes, in their
    order, the two are the same. What else is read that mmdet trips over, see
    :func:`~gslora_mm.utils.coco_annotations.put_in_order`.

    What is read is shared by all data sets that read the same of a file, see
    :func:`~gslora_mm.utils.sharing.read_once`.

    Attributes:
        file_order (tuple[str, ...]): The classes that the file has, in its
            order.
        objects (Objects, optional): Labels of all objects, where they are
            known without reading each annotation.

    Raises:
        ConfigError: If an entry of the file cannot be read.
    """

    file_order: tuple[str, ...]
    #: Objects, and the addresses of the annotations that have them.
    _objects: tuple[Objects | None, np.ndarray | None] = (None, None)

    @property
    def objects(self) -> Objects | None:
        objects, address = self._objects
        # A subset of a data set has other addresses.
        return objects if address is self.data_address else None

    def full_init(self) -> None:
        """Read the file, if none has read the same of it before."""
        if self._fully_initialized:
            return
        if not self.serialize_data or self.proposal_file is not None:
            super().full_init()
            return
        settings = (
            self._metainfo.get('classes'),
            self.data_prefix,
            self.filter_cfg,
            self._indices,
            self.test_mode,
            self.seg_map_suffix,
            self.return_classes,
            self.caption_prompt,
            self.backend_args,
        )
        vars(self).update(
            shared([self.ann_file], (type(self), repr(settings)), self._read)
        )

    def _read(self) -> dict[str, Any]:
        """Read the file; what is known of it then, as attributes."""
        before = dict(vars(self))
        with no_search_for_garbage():
            super().full_init()
        return {
            name: value
            for name, value in vars(self).items()
            if name not in before or value is not before[name]
        }

    def load_data_list(self) -> list[dict]:
        """Read all annotations as mmdet does, but all boxes at once."""
        with get_local_path(
            self.ann_file, backend_args=self.backend_args
        ) as path:
            content, _ = read_annotations(path, self.ann_file)
        classes = self._metainfo.get('classes') or ()
        ids = ids_by_name(content, classes, self.ann_file)
        labels = {each: label for label, each in enumerate(ids)}
        labels.pop(None, None)
        self.file_order = tuple(
            each['name']
            for each in content['categories']
            if each['id'] in labels
        )
        # An absent one holds the place of its label.
        self.cat_ids = [
            f'no {name}' if each is None else each
            for name, each in zip(classes, ids, strict=True)
        ]
        self.cat2label = {each: i for i, each in enumerate(self.cat_ids)}
        self.cat_img_map = collections.defaultdict(list)
        for each in content['annotations']:
            self.cat_img_map[each['category_id']].append(each['image_id'])
        images = content['images']
        instances = _instances(content, labels)
        return [
            self._data_info(image, found)
            for image, found in zip(images, instances, strict=True)
        ]

    def _data_info(self, image: dict, instances: list[dict]) -> dict:
        """What mmdet knows of an image, without going through its boxes."""
        raw = dict(image, img_id=image['id'])
        info = self.parse_data_info(dict(raw_img_info=raw, raw_ann_info=()))
        info['instances'] = instances
        return info

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """As MMEngine has it; the bytes cannot be written to."""
        objects = objects_of(self.data_list)
        infos = [pickle.dumps(info, protocol=4) for info in self.data_list]
        self.data_list.clear()
        address = np.cumsum([len(info) for info in infos], dtype=np.int64)
        self._objects = objects, address
        return np.frombuffer(b''.join(infos), np.uint8), address


def _instances(content: dict, labels: dict) -> list[list[dict]]:
    """The objects of each image, by the rules of mmdet's ``CocoDataset``.

    Left out are those to be ignored, of no class, with less than a pixel, or
    beside their image.

    Args:
        content (dict): Of a COCO file, in order.
        labels (dict): By category id.
    """
    images, annotations = content['images'], content['annotations']
    places = {each['id']: place for place, each in enumerate(images)}
    place = np.array([places.get(e['image_id'], -1) for e in annotations], int)
    label = np.array(
        [labels.get(each['category_id'], -1) for each in annotations], int
    )
    is_ignored = [bool(each.get('ignore')) for each in annotations]
    area = np.array([each['area'] for each in annotations], float)
    boxes = np.array([e['bbox'] for e in annotations], float).reshape(-1, 4)
    start, extent = boxes[:, :2], boxes[:, 2:]
    size = [(each['width'], each['height']) for each in images] or [(0, 0)]
    end = np.minimum(start + extent, np.array(size, float)[place])
    kept = (
        (end > np.maximum(start, 0)).all(1)
        & (extent >= 1).all(1)
        & (area > 0)
        & (label >= 0)
        & (place >= 0)
        & ~np.array(is_ignored, bool)
    )
    chosen = np.flatnonzero(kept)
    chosen = chosen[np.argsort(place[chosen], kind='stable')]
    corners = np.hstack([start, start + extent])[chosen].tolist()
    out: list[list[dict]] = [[] for _ in images]
    for number, image, box, name in zip(
        chosen.tolist(),
        place[chosen].tolist(),
        corners,
        label[chosen].tolist(),
        strict=True,
    ):
        annotation = annotations[number]
        each = dict(
            ignore_flag=int(annotation['iscrowd'] != 0),
            bbox=box,
            bbox_label=name,
        )
        if annotation.get('segmentation'):
            each['mask'] = annotation['segmentation']
        out[image].append(each)
    return out
