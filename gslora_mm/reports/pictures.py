"""Boxes before and after: the same validation images after every step."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from .detections import Boxes, detect, ground_truth
from .selection import checkpoints_of, choose_images, load_config, shorten
from .style import COLOURS, figure_style, save_figure

_CELL = 1.9  # inches
_LEGEND = {
    'retained': (COLOURS['retain'], 'solid'),
    'to be forgotten': (COLOURS['forget'], 'solid'),
    'should be gone': (COLOURS['forget'], (0, (2, 1.2))),
}


def draw_pictures(
    work_dir: str | os.PathLike,
    report: Mapping,
    path: str | os.PathLike,
    count: int | None = None,
    threshold: float = 0.3,
    device: str | None = None,
) -> bool:
    """Draw what the detector finds before and after each step.

    The stock model of ``pretrained/config.py`` is run through mmdet's own
    API, with the pre-trained checkpoint and each step's ``merged.pth``, on a
    few validation images that show forgotten categories.

    Args:
        work_dir (str | os.PathLike): Work dir of a detection sequence.
        report (Mapping): Its report, see :func:`build_report`.
        path (str | os.PathLike): The PNG file to write, atomically.
        count (int, optional): How many images. Defaults to one per finished
            step, but at least 4 and at most 8.
        threshold (float): Least score of a box to be drawn. Defaults to 0.3.
        device (str, optional): Where to run the model. Defaults to the GPU
            if there is one, else the CPU.

    Returns:
        bool: Whether there was anything to draw.

    Raises:
        ConfigError: If a checkpoint is missing or damaged.
        FileNotFoundError: If the config or the validation data is missing.
    """
    work_dir, classes = Path(work_dir), report['classes']
    steps = report['steps']
    requests = [step['forget'] for step in steps]
    config = load_config(work_dir)
    truth = ground_truth(config, classes)
    chosen = choose_images(
        [boxes.names for _, boxes in truth],
        requests,
        count or min(max(len(steps), 4), 8),
    )
    if not chosen:
        return False
    paths = [truth[index][0] for index in chosen]
    columns = {'ground truth': [truth[index][1] for index in chosen]}
    columns.update(
        detect(
            config,
            checkpoints_of(work_dir, steps),
            classes,
            paths,
            threshold,
            device or ('cuda' if torch.cuda.is_available() else 'cpu'),
        )
    )
    images = [mmcv.imread(file, channel_order='rgb') for file in paths]
    plot_pictures(images, columns, requests, path)
    return True


def plot_pictures(
    images: Sequence[np.ndarray],
    columns: Mapping[str, Sequence[Boxes]],
    requests: Sequence[Sequence[str]],
    path: str | os.PathLike,
) -> None:
    """Draw a grid: one row per image, one column per state of the model.

    Args:
        images (Sequence[np.ndarray]): RGB, each of shape (height, width, 3).
        columns (Mapping): By title the boxes of each image: two columns
            before any forgetting, then one per step.
        requests (Sequence[Sequence[str]]): Forgotten categories, by step.
        path (str | os.PathLike): The PNG file to write, atomically.
    """
    ever = {name for request in requests for name in request}
    gone: set[str] = set()
    with figure_style():
        shapes = [image.shape[0] / image.shape[1] for image in images]
        heights = [_CELL * min(max(shape, 0.5), 1.5) for shape in shapes]
        figure = Figure(
            figsize=(_CELL * len(columns), sum(heights) + 0.8),
            layout='constrained',
        )
        figure.get_layout_engine().set(
            w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01
        )
        grid = figure.subplots(
            len(images), len(columns), squeeze=False, height_ratios=heights
        )
        for place, (title, found) in enumerate(columns.items()):
            request = requests[place - 2] if place >= 2 else ()
            gone |= set(request)
            for axes, image, boxes in zip(
                grid[:, place], images, found, strict=True
            ):
                axes.imshow(image, interpolation='bilinear')
                axes.set_axis_off()
                _draw_boxes(axes, image.shape, boxes, ever, gone)
            if request:
                title += f'\nforget {shorten(request)}'
            grid[0, place].set_title(title, fontsize=8, loc='center')
        figure.legend(
            handles=[
                Rectangle(
                    (0, 0),
                    1,
                    1,
                    fill=False,
                    linewidth=1.5,
                    label=label,
                    edgecolor=colour,
                    linestyle=line,
                )
                for label, (colour, line) in _LEGEND.items()
            ],
            loc='outside lower center',
            ncols=3,
            fontsize=8,
        )
        save_figure(figure, path)


def _draw_boxes(
    axes: Axes,
    shape: tuple[int, ...],
    boxes: Boxes,
    ever: set[str],
    gone: set[str],
) -> None:
    """Frames and labels, with each label where it hides no other."""
    taken: list[Bbox] = []
    for number, (corners, name) in enumerate(
        zip(boxes.corners, boxes.names, strict=True)
    ):
        kind = 'should be gone' if name in gone else 'to be forgotten'
        colour, line = _LEGEND[kind if name in ever else 'retained']
        x1, y1, x2, y2 = corners
        axes.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                linewidth=1.3,
                edgecolor=colour,
                linestyle=line,
            )
        )
        label = name
        if boxes.scores is not None:
            label += f' {boxes.scores[number]:.2f}'
        _place_label(axes, shape, label, corners, colour, taken)


def _place_label(
    axes: Axes,
    shape: tuple[int, ...],
    label: str,
    corners: np.ndarray,
    colour: str,
    taken: list[Bbox],
) -> None:
    """Write above the box, below it or inside: the first place free."""
    # Size of the text in pixels of the image, for DejaVu Sans at 5.5 points.
    unit = shape[1] / _CELL / 72 * 5.5
    width, height = (0.62 * len(label) + 0.5) * unit, 1.45 * unit
    x1, y1, x2, y2 = corners
    places = [
        Bbox.from_bounds(min(max(x, 0), shape[1] - width), y, width, height)
        for y in (y1 - height, y2, y1, y2 - height)
        for x in (x1, x2 - width)
        if 0 <= y <= shape[0] - height
    ] or [Bbox.from_bounds(x1, max(y1, 0), width, height)]
    place = min(
        places, key=lambda box: sum(_overlap(box, other) for other in taken)
    )
    taken.append(place)
    axes.add_patch(
        Rectangle(
            (place.x0, place.y0), width, height, color=colour, linewidth=0
        )
    )
    axes.text(
        (place.x0 + place.x1) / 2,
        (place.y0 + place.y1) / 2,
        label,
        color='white',
        fontsize=5.5,
        ha='center',
        va='center_baseline',
        clip_on=True,
    )


def _overlap(first: Bbox, second: Bbox) -> float:
    """Shared area of two rectangles."""
    shared = Bbox.intersection(first, second)
    return 0.0 if shared is None else shared.width * shared.height
