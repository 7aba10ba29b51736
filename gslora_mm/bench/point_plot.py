"""Methods as points of a plane, each with its name."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, NullLocator, SymmetricalLogLocator
from matplotlib.transforms import Bbox

from gslora_mm.reports.style import COLOURS, GREY, figure_style, save_figure

#: Where a name may stand: pixels between it and its point, and directions.
_DISTANCES = (5, 9, 14, 20, 28, 38, 50, 64, 80, 100, 125, 150, 180, 220)
_DIRECTIONS = [
    np.array([np.cos(angle), np.sin(angle)])
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False)
]
_MARK = 5  # pixels from the centre of a mark to its edge
_NEAR = 16  # pixels: up to here no line is needed
#: Interquartile ranges below the first quartile that are off the picture.
_FAR = 3
#: Markers of points: what others are compared with, and what is really
#: further below.
REFERENCE, BELOW = 'D', 'v'


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes:
        name (str): Its name.
        x (float): Mean of the abscissa.
        y (float): Mean of the ordinate.
        x_std (float): Standard deviation, or 0.
        y_std (float): Standard deviation, or 0.
        marker (str): Its mark. Defaults to ``'o'``.
    """

    name: str
    x: float
    y: float
    x_std: float = 0.0
    y_std: float = 0.0
    marker: str = 'o'

    def ends(self) -> np.ndarray:
        """Ends of its error bars; nothing here is below 0.

        Returns:
            np.ndarray: Both bars, both ends, abscissa and ordinate.
        """
        x, y = self.x, self.y
        left, low = max(x - self.x_std, 0), max(y - self.y_std, 0)
        return np.array(
            [
                [(left, y), (x + self.x_std, y)],
                [(x, low), (x, y + self.y_std)],
            ]
        )


def plot_points(
    points: Sequence[Point],
    labels: tuple[str, str],
    title: str,
    path: str | os.PathLike,
    x_scale: str = 'linear',
) -> None:
    """Draw points with error bars, and their names where there is room.

    Points that are far below all others would leave the others no room:
    they are triangles at the lower edge, with the ordinate in their name.

    Args:
        points (Sequence[Point]): The methods; at least one.
        labels (tuple[str, str]): What the two axes show.
        title (str): Title of the figure.
        path (str | os.PathLike): The PNG file to write, atomically.
        x_scale (str): Of the abscissa: ``'linear'``, ``'log'``, or
            ``'symlog'`` for what is often 0: linear up to 1, logarithmic
            above. Defaults to ``'linear'``.
    """
    points = _raised(points)
    with figure_style():
        figure = Figure(figsize=(8.2, 5.4), layout='constrained')
        axes = figure.subplots()
        for point in points:
            is_reference = point.marker == REFERENCE
            axes.plot(
                point.x,
                point.y,
                marker=point.marker,
                markersize=5.5,
                color=COLOURS['retain'],
                markerfacecolor='white' if is_reference else None,
                zorder=4 if is_reference else 3,
            )
            stds = point.x_std, point.y_std
            for bar in itertools.compress(point.ends(), stds):
                axes.plot(*bar.T, color=COLOURS['retain'], linewidth=0.8)
        if x_scale != 'linear':
            ticks = dict(subs=(1, 2, 3, 5))
            threshold = dict(linthresh=1) if x_scale == 'symlog' else {}
            axes.set_xscale(x_scale, **threshold)
            axes.xaxis.set_major_locator(
                SymmetricalLogLocator(base=10, **threshold, **ticks)
                if threshold
                else LogLocator(**ticks)
            )
            axes.xaxis.set_major_formatter('{x:g}')
            axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(0.08)
        axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
        axes.grid()
        _write_names(axes, points)
        save_figure(figure, path)


def _raised(points: Sequence[Point]) -> list[Point]:
    """The same points, those that are far below at the edge of the others."""
    low, high = np.quantile([point.y for point in points], (0.25, 0.75))
    limit = low - _FAR * (high - low)
    # What others are compared with is to be seen in any case.
    limit = min([limit, *(p.y for p in points if p.marker == REFERENCE)])
    seen = np.array([point.ends() for point in points if point.y >= limit])
    lowest, highest = seen[..., 1].min(), seen[..., 1].max()
    if lowest == highest:
        return list(points)
    # Below all error bars, so that none reaches down to a triangle.
    edge = lowest - 0.1 * (highest - lowest)
    return [
        point
        if point.y >= limit
        else replace(
            point,
            name=f'{point.name} ({point.y:.1f})',
            y=edge,
            y_std=0.0,
            marker=BELOW,
        )
        for point in points
    ]


def _write_names(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, tied to them by a line if far away.

    Points in one place have one text with all of their names: of several
    texts around a mark, nobody could tell whether they are all its own.
    """
    figure = axes.get_figure()
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # places are final from here on
    frame = axes.get_window_extent()
    to_pixels = axes.transData.transform
    marks = to_pixels([(point.x, point.y) for point in points])
    boxes = [Bbox([mark - _MARK, mark + _MARK]) for mark in marks]
    lines = [Path(to_pixels(bar)) for point in points for bar in point.ends()]
    for group in _in_one_place(marks):
        mark = marks[group[0]]
        name = '\n'.join(points[index].name for index in sorted(group))
        text = figure.text(0, 0, name, fontsize=8)
        size = text.get_window_extent().size
        text.remove()
        box, line = _best_place(mark, size, frame, boxes, lines)
        boxes.append(box)
        lines.append(line)
        axes.annotate(
            name,
            (points[group[0]].x, points[group[0]].y),
            (box.p0 - mark) * 72 / figure.dpi,  # saved with other pixels
            textcoords='offset points',
            fontsize=8,
        )
        nearest = marks.clip(box.p0, box.p1) - marks
        is_nearest = np.hypot(*nearest.T).argmin() in group
        if _length(line) > _NEAR - _MARK or not is_nearest:
            ends = axes.transAxes.inverted().transform(
                [mark, line.vertices[1]]
            )
            axes.plot(
                *ends.T, transform=axes.transAxes, color=GREY, linewidth=0.5
            )


def _in_one_place(marks: np.ndarray) -> list[np.ndarray]:
    """Indices of points from top to bottom, those on one pixel together."""
    order = np.lexsort((marks[:, 0], -marks[:, 1]))
    groups: list[np.ndarray] = []
    for index in order:
        distances = np.hypot(*(marks - marks[index]).T)
        if not any(index in group for group in groups):
            groups.append(np.flatnonzero(distances < 1))
    return groups


def _best_place(
    mark: np.ndarray,
    size: np.ndarray,
    frame: Bbox,
    boxes: Sequence[Bbox],
    lines: Sequence[Path],
) -> tuple[Bbox, Path]:
    """Where a name of some size stands best, and the line to it."""
    least, best = np.inf, None
    for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
        if distance >= least:
            break
        end = mark + (_MARK + distance) * direction
        corner = end - size * (1 - direction) / 2
        # From the edge of the mark on: its own error bars do not count.
        line = Path([mark + (_MARK + 1) * direction, end])
        place = Bbox([corner, corner + size]), line
        cost = _cost(*place, frame, boxes, lines)
        if cost < least:
            least, best = cost, place
    return best


def _cost(
    box: Bbox,
    line: Path,
    frame: Bbox,
    boxes: Sequence[Bbox],
    lines: Sequence[Path],
) -> float:
    """How bad a place is, in pixels of distance.

    Args:
        box (Bbox): The name there.
        line (Path): From its mark to it.
        frame (Bbox): That of the axes.
        boxes (Sequence[Bbox]): Marks, and names that have their place.
        lines (Sequence[Path]): Error bars, and lines to these names.
    """
    struck = [line.intersects_bbox(each) for each in boxes]
    struck += [each.intersects_bbox(box) for each in lines]
    crossed = [line.intersects_path(each) for each in lines]
    return (
        _length(line)
        + 10_000 * (frame.count_contains([box.p0, box.p1]) < 2)
        + 1_000 * box.padded(1).count_overlaps(boxes)
        + 300 * sum(struck)
        + 60 * sum(crossed)
    )


def _length(line: Path) -> float:
    return float(np.hypot(*np.ptp(line.vertices, axis=0)))
