"""Methods as points of a plane, each with its name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    NullLocator,
    SymmetricalLogLocator,
)
from matplotlib.transforms import Bbox

from gslora_mm.reports.style import COLOURS, GREY, figure_style, save_figure

#: Where a name may stand: pixels between it and its point.
_DISTANCES = (5, 9, 14, 20, 28, 38, 50, 64, 80, 100, 125, 150, 180, 220)
_NUM_ANGLES = 16
_NUM_SAMPLES = 15  # along a line, to see what it covers
_NEAR = 16  # pixels: up to here no line is needed
_SAME = 1  # pixel: what is this close is one mark to the eye
#: Interquartile ranges below the first quartile that are off the picture.
_FAR = 3


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes:
        name (str): Its name.
        x (float): Mean of the abscissa.
        y (float): Mean of the ordinate.
        x_std (float): Standard deviation, or 0.
        y_std (float): Standard deviation, or 0.
        is_reference (bool): Whether it is what others are compared with.
        is_below (bool): Whether it is really further below.
    """

    name: str
    x: float
    y: float
    x_std: float = 0.0
    y_std: float = 0.0
    is_reference: bool = False
    is_below: bool = False

    def x_ends(self) -> tuple[float, float]:
        """Ends of the horizontal error bar; nothing here is below 0."""
        return max(self.x - self.x_std, 0), self.x + self.x_std

    def y_ends(self) -> tuple[float, float]:
        """Ends of the vertical error bar; nothing here is below 0."""
        return max(self.y - self.y_std, 0), self.y + self.y_std


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
    floor = _floor(points)
    if floor is not None:
        points = [
            point
            if point.y >= floor
            else replace(
                point,
                name=f'{point.name} ({point.y:.1f})',
                y=floor,
                y_std=0.0,
                is_below=True,
            )
            for point in points
        ]
    with figure_style():
        figure = Figure(figsize=(8.2, 5.4), layout='constrained')
        axes = figure.subplots()
        for point in points:
            axes.errorbar(
                point.x,
                point.y,
                xerr=_lengths(point.x, point.x_ends()),
                yerr=_lengths(point.y, point.y_ends()),
                marker='v'
                if point.is_below
                else 'D'
                if point.is_reference
                else 'o',
                markersize=5.5,
                color=COLOURS['retain'],
                markerfacecolor='white' if point.is_reference else None,
                elinewidth=0.8,
                linestyle='none',
                zorder=4 if point.is_reference else 3,
            )
        if x_scale != 'linear':
            steps = dict(subs=(1, 2, 3, 5))
            if x_scale == 'symlog':
                axes.set_xscale('symlog', linthresh=1)
                locator = SymmetricalLogLocator(base=10, linthresh=1, **steps)
            else:
                axes.set_xscale('log')
                locator = LogLocator(**steps)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter('{x:g}')
            axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(0.08)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_title(title)
        axes.grid()
        _write_names(axes, points)
        save_figure(figure, path)


def _floor(points: Sequence[Point]) -> float | None:
    """Where the picture ends if some are far below; None if none are."""
    values = [point.y for point in points]
    low, high = np.quantile(values, (0.25, 0.75))
    limit = low - _FAR * (high - low)
    # What others are compared with is to be seen in any case.
    limit = min([limit, *(p.y for p in points if p.is_reference)])
    seen = [point for point in points if point.y >= limit]
    lowest = min(point.y_ends()[0] for point in seen)
    highest = max(point.y_ends()[1] for point in seen)
    if len(seen) == len(values) or lowest == highest:
        return None
    # Below all error bars, so that none reaches down to a triangle.
    return lowest - 0.1 * (highest - lowest)


def _lengths(
    value: float, ends: tuple[float, float]
) -> list[list[float]] | None:
    """Lengths of an error bar below and above; None if it has none."""
    low, high = ends
    return [[value - low], [high - value]] if low < high else None


def _write_names(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, tied to them by a line if far away.

    Points in one place have one text with all of their names: of several
    texts around a mark, nobody could tell whether they are all its own.
    """
    figure = axes.get_figure()
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # places are final from here on
    frame = axes.get_window_extent()
    marks = axes.transData.transform([(point.x, point.y) for point in points])
    taken = [Bbox.from_extents(*mark - 5, *mark + 5) for mark in marks]
    lines = _error_bars(axes, points)
    # From top to bottom: each finds its place below the ones before.
    for index, *others in _in_one_place(marks):
        name = '\n'.join(points[each].name for each in (index, *others))
        text = figure.text(0, 0, name, fontsize=8)
        size = text.get_window_extent().size
        text.remove()
        box, line = _best_place(marks[index], size, frame, taken, lines)
        taken.append(box)
        lines.append(line)
        axes.annotate(
            name,
            (points[index].x, points[index].y),
            (box.p0 - marks[index]) * 72 / figure.dpi,
            textcoords='offset points',
            fontsize=8,
        )
        distances = np.hypot(*(_closest(box, marks) - marks).T)
        is_nearest = distances.argmin() in (index, *others)
        if _length(line) > _NEAR or not is_nearest:
            ends = axes.transAxes.inverted().transform(line)
            axes.plot(
                *ends.T, transform=axes.transAxes, color=GREY, linewidth=0.5
            )


def _in_one_place(marks: np.ndarray) -> list[list[int]]:
    """Indices of points from top to bottom, those in one place together."""
    groups: list[list[int]] = []
    for index in np.lexsort((marks[:, 0], -marks[:, 1])):
        for group in groups:
            if np.hypot(*(marks[index] - marks[group[0]])) < _SAME:
                group.append(index)
                break
        else:
            groups.append([index])
    return [sorted(group) for group in groups]


def _closest(box: Bbox, marks: np.ndarray) -> np.ndarray:
    """The points of a box that are closest to some marks."""
    return np.clip(marks, box.p0, box.p1)


def _error_bars(axes: Axes, points: Sequence[Point]) -> list[np.ndarray]:
    """Places along all error bars, in pixels."""
    ends = []
    for point in points:
        ends.append([(x, point.y) for x in point.x_ends()])
        ends.append([(point.x, y) for y in point.y_ends()])
    pixels = axes.transData.transform(np.reshape(ends, (-1, 2)))
    return [
        np.linspace(*bar, _NUM_SAMPLES) for bar in pixels.reshape(-1, 2, 2)
    ]


def _best_place(
    mark: np.ndarray,
    size: np.ndarray,
    frame: Bbox,
    taken: Sequence[Bbox],
    lines: Sequence[np.ndarray],
) -> tuple[Bbox, np.ndarray]:
    """Where a name of some size stands best, and the line to it."""
    least, best = np.inf, None
    for distance in _DISTANCES:
        if distance >= least:
            break
        for angle in 2 * np.pi * np.arange(_NUM_ANGLES) / _NUM_ANGLES:
            direction = np.array([np.cos(angle), np.sin(angle)])
            end = mark + (5 + distance) * direction
            corner = end - size * (1 - direction) / 2
            box = Bbox([corner, corner + size])
            line = np.linspace(mark, end, _NUM_SAMPLES)
            cost = _cost(box, line, frame, taken, lines)
            if cost < least:
                least, best = cost, (box, line)
    return best


def _cost(
    box: Bbox,
    line: np.ndarray,
    frame: Bbox,
    taken: Sequence[Bbox],
    lines: Sequence[np.ndarray],
) -> float:
    """How bad a place is, in pixels of distance."""
    inside = frame.count_contains([box.p0, box.p1]) == 2
    covered = box.padded(1).count_overlaps(taken)
    struck = sum(
        bool(other.count_contains(line))
        for other in taken
        if not other.contains(*line[0])
    )
    struck += sum(bool(box.count_contains(other)) for other in lines)
    crossed = sum(_cross(line, other) for other in lines)
    return (
        _length(line)
        + 10_000 * (not inside)
        + 1_000 * covered
        + 300 * struck
        + 60 * crossed
    )


def _length(line: np.ndarray) -> float:
    return float(np.hypot(*(line[-1] - line[0])))


def _cross(line: np.ndarray, other: np.ndarray) -> bool:
    """Whether two segments cross."""

    def side(segment: np.ndarray, point: np.ndarray) -> float:
        (x0, y0), (x1, y1) = segment[0], segment[-1]
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

    return (
        side(line, other[0]) * side(line, other[-1]) < 0
        and side(other, line[0]) * side(other, line[-1]) < 0
    )
