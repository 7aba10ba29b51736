from collections.abc import Callable, Sequence

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

CLASSES = ('person', 'bicycle', 'car', 'motorcycle', 'dog')


class ListDataset(BaseDataset):
    """Detection data from a list of labels per image, kept in memory.

    Negative labels stand for crowd regions of the label -1 - label.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(self, labels: Sequence[Sequence[int]], **kwargs) -> None:
        self.labels = labels
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [
            dict(
                img_id=100 + index,
                instances=[
                    dict(
                        bbox=[0, 0, 8, 8],
                        bbox_label=label if label >= 0 else -1 - label,
                        ignore_flag=int(label < 0),
                    )
                    for label in labels
                ],
            )
            for index, labels in enumerate(self.labels)
        ]


class Pack:
    """A pipeline: an optional random number, and a data sample."""

    def __init__(self, draw: Callable[[], float | None] = lambda: 0.0) -> None:
        self.draw = draw

    def __call__(self, info: dict) -> dict | None:
        value = self.draw()
        if value is None:
            return None
        sample = BaseDataElement(metainfo=dict(img_id=info['img_id']))
        return dict(inputs=value, data_samples=sample)


@pytest.fixture
def make_dataset() -> Callable[..., ListDataset]:
    def make(labels, draw=lambda: 0.0, **kwargs):
        kwargs.setdefault('serialize_data', False)  # faster to make
        return ListDataset(labels, pipeline=[Pack(draw)], **kwargs)

    return make


@pytest.fixture
def random_labels() -> list[list[int]]:
    """200 images; class 0 is in nearly all of them, class 4 in few."""
    rng = np.random.RandomState(0)
    chances = np.array([0.9, 0.5, 0.3, 0.2, 0.05])
    return [
        np.flatnonzero(rng.rand(5) < chances).tolist() or [0]
        for _ in range(200)
    ]
