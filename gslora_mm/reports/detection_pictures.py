"""Pictures of detectors: boxes, dashed where they should be gone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from mmengine.visualization import Visualizer

from gslora_mm.registry import PICTURES
from .pictures import (
    GONE,
    LATER,
    RETAINED,
    Fate,
    Finding,
    Pictures,
    choose_images,
)
from .style import COLOURS

_WIDTH = 1.9  # inches
_FONT_SIZE = 5.5  # points
_FRAME = dict(facecolor='none', linewidth=1.4)
_DASHED = (0, (2, 1.2))


@PICTURES.register_module(name='detection')
class DetectionPictures(Pictures):
    """Images with the boxes of their objects.

    Args:
        threshold (float): Least score of a box to be drawn. Defaults to 0.3.
    """

    legend = {
        RETAINED: dict(edgecolor=COLOURS['retain'], linestyle='-', **_FRAME),
        LATER: dict(edgecolor=COLOURS['forget'], linestyle='-', **_FRAME),
        GONE: dict(edgecolor=COLOURS['forget'], linestyle=_DASHED, **_FRAME),
    }
    widths = (_WIDTH, _WIDTH)
    title = 'ground truth'

    def __init__(self, threshold: float = 0.3) -> None:
        self.threshold = threshold

    def truth(self, info: dict, classes: Sequence[str]) -> Finding:
        """Read all objects but crowds."""
        objects = [i for i in info['instances'] if not i.get('ignore_flag')]
        return Finding(
            [classes[i['bbox_label']] for i in objects],
            boxes=np.array([i['bbox'] for i in objects], float).reshape(-1, 4),
        )

    def prediction(self, sample: Any, classes: Sequence[str]) -> Finding:
        """Read the detections of at least the threshold, best first."""
        found = sample.pred_instances.cpu().numpy()
        kept = np.flatnonzero(found.scores >= self.threshold)
        kept = kept[np.argsort(-found.scores[kept], kind='stable')]
        return Finding(
            [classes[label] for label in found.labels[kept]],
            found.scores[kept].astype(float).tolist(),
            found.bboxes[kept].astype(float),
        )

    def choose(
        self,
        names: Sequence[Sequence[str]],
        steps: Sequence[Mapping],
        count: int | None = None,
    ) -> list[int]:
        """One image a step, but at least 4 and at most 8."""
        return choose_images(
            names,
            [step['forget'] for step in steps],
            count or min(max(len(steps), 4), 8),
        )

    def height(self, image: np.ndarray) -> float:
        return _WIDTH * min(max(image.shape[0] / image.shape[1], 0.5), 1.5)

    def draw(
        self,
        axes: Axes,
        image: np.ndarray,
        truth: Finding,
        found: Finding | None,
        fate: Fate,
    ) -> None:
        """Draw boxes and labels, each label where it hides no other."""
        found = found or truth
        height, width = image.shape[:2]
        axes.imshow(
            image, interpolation='bilinear', extent=(0, width, height, 0)
        )
        axes.set_axis_off()
        axes.autoscale(False)
        if not found.names:
            return
        # The visualizer warns of what touches the right or lower edge.
        boxes = found.boxes.clip(0, [width - 1e-3, height - 1e-3] * 2)
        styles = [self.legend[fate(name)] for name in found.names]
        colours = [style['edgecolor'] for style in styles]
        scores = found.scores or [None] * len(found.names)
        labels = [
            name if score is None else f'{name} {score:.2f}'
            for name, score in zip(found.names, scores, strict=True)
        ]
        visualizer = Visualizer(image=image)
        # Not to pixels of the image, in which no text would be legible.
        visualizer.ax_save = axes
        visualizer.draw_bboxes(
            boxes,
            edge_colors=colours,
            line_styles=[style['linestyle'] for style in styles],
            line_widths=_FRAME['linewidth'],
            alpha=1,
        )
        inches = min(_WIDTH / width, self.height(image) / height)  # a pixel
        visualizer.draw_texts(
            labels,
            _place_labels(
                labels, boxes, (width, height), _FONT_SIZE / 72 / inches
            ),
            font_sizes=_FONT_SIZE,
            colors='white',
            vertical_alignments='center_baseline',
            bboxes=[
                dict(facecolor=colour, linewidth=0, boxstyle='square,pad=0.2')
                for colour in colours
            ],
        )


def _place_labels(
    labels: Sequence[str],
    boxes: np.ndarray,
    image_size: tuple[int, int],
    font_size: float,
) -> np.ndarray:
    """Where to write: above a box, below it or inside, the first free place.

    Args:
        labels (Sequence[str]): What is to be written.
        boxes (np.ndarray): Corners of the objects, shape (n, 4).
        image_size (tuple[int, int]): Width and height of the image.
        font_size (float): In pixels of the image, like all lengths here.

    Returns:
        np.ndarray: Where the texts begin, half-way up, shape (n, 2).
    """
    width, height = image_size
    taken: list[Bbox] = []
    for label, (x1, y1, x2, y2) in zip(labels, boxes, strict=True):
        # Size of the text and its margin, for DejaVu Sans.
        w, h = (0.62 * len(label) + 0.5) * font_size, 1.45 * font_size
        places = [
            Bbox.from_bounds(min(max(x, 0), max(width - w, 0)), y, w, h)
            for y in (y1 - h, y2, y1, y2 - h)
            for x in (x1, x2 - w)
            if 0 <= y <= height - h
        ] or [Bbox.from_bounds(x1, max(y1, 0), w, h)]
        taken.append(
            min(
                places,
                key=lambda place: sum(_overlap(place, t) for t in taken),
            )
        )
    margin = 0.25 * font_size
    return np.array([(t.x0 + margin, (t.y0 + t.y1) / 2) for t in taken])


def _overlap(first: Bbox, second: Bbox) -> float:
    """Shared area of two rectangles."""
    shared = Bbox.intersection(first, second)
    return 0.0 if shared is None else shared.width * shared.height
