"""COCO data of which labels are told by names."""

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from gslora_mm.registry import DATASETS
from gslora_mm.utils.coco_annotations import ids_by_name, put_in_order


@DATASETS.register_module()
class NamedCocoDataset(CocoDataset):
    """mmdet's CocoDataset for the files that people really have.

    Labels are positions in ``metainfo.classes``, whatever the order of the
    categories in the file, and whether it has all of them; mmdet numbers
    those that it finds. Where the file lists exactly the classes, in their
    order, the two are the same. What else is read that mmdet trips over, see
    :func:`~gslora_mm.utils.coco_annotations.put_in_order`.

    Attributes:
        file_order (tuple[str, ...]): The classes that the file has, in its
            order.

    Raises:
        ConfigError: If an entry of the file cannot be read.
    """

    def COCOAPI(self, path: str) -> '_NamedCoco':
        """Read the file; mmdet has a class here."""
        classes = self.metainfo.get('classes') or ()
        content = _NamedCoco(path, classes, self.ann_file)
        self.file_order = content.file_order
        return content


class _NamedCoco(COCO):
    """A file's content with the classes as its first categories.

    Args:
        path (str): The file here.
        classes (Sequence[str]): In the order of their labels.
        file (str): The file as the config has it, for errors.
    """

    def __init__(self, path: str, classes: Sequence[str], file: str) -> None:
        self.classes, self.file = classes, file
        self.file_order: tuple[str, ...] = ()
        super().__init__(path)

    def createIndex(self) -> None:
        """Put the content in order before it is indexed."""
        content: dict[str, Any] = self.dataset
        put_in_order(content, self.file)
        ids = ids_by_name(content, self.classes, self.file)
        known = {each['id']: each for each in content['categories']}
        self.file_order = tuple(
            known[id_]['name'] for id_ in known if id_ in ids
        )
        # An absent one holds the place of its label.
        content['categories'] = [
            known.get(id_, dict(id=f'no {name}', name=name))
            for name, id_ in zip(self.classes, ids, strict=True)
        ]
        content['categories'] += [
            each for each in known.values() if each['name'] not in self.classes
        ]
        super().createIndex()
