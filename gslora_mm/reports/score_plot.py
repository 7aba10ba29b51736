"""Scores of the splits over the steps, next to the pre-trained model's."""

import os
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import COLOURS, GREY, figure_style, save_figure

_MARKERS = dict(retain='o', forget='v', old='s', missing='D', learned='^')
_MARK = dict(linestyle='none', markersize=5.5)


def plot_scores(
    steps: Sequence[dict], score_name: str, path: str | os.PathLike
) -> None:
    """Draw two panels: the score of each split, and H-Mean with its bound.

    A hollow mark is the pre-trained model's score on the same classes, a
    filled one the score after the step, the stem between them the change.
    Splits stand side by side within a step, so that they never cover one
    another. The figures under the H-Mean are its share of the upper bound.

    Args:
        steps (Sequence[dict]): Finished steps, entries of report.json; at
            least one.
        score_name (str): Short name of the score, e.g. 'AP'.
        path (str | os.PathLike): The PNG file to write, atomically.
    """
    splits = [
        split
        for split in _MARKERS
        if any(step.get(f'{split}_score') is not None for step in steps)
    ]
    with figure_style():
        figure = Figure(figsize=(8.6, 3.7), layout='constrained')
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for place, split in enumerate(splits):
            _draw(
                left,
                steps,
                (f'{split}_before', f'{split}_score'),
                split,
                offset=0.2 * (place - (len(splits) - 1) / 2),
            )
        _draw(right, steps, ('h_mean_upper_bound', 'h_mean'), 'h_mean')
        _write_ratios(right, steps)
        left.set_title(f'{score_name} of each split (%)')
        right.set_title('H-Mean (%)')
        _legend(left, 'pre-trained')
        _legend(right, 'upper bound')
        numbers = [step['step'] for step in steps]
        for axes in (left, right):
            axes.set_xlabel('step')
            axes.set_xticks(numbers)
            axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
            axes.grid(axis='y')
        # Whole marks at 0 and at the top.
        top = max(left.dataLim.y1, right.dataLim.y1, 1)
        left.set_ylim(-0.04 * top, 1.05 * top)
        right.tick_params(labelleft=True)
        save_figure(figure, path)


def _draw(
    axes: Axes,
    steps: Sequence[dict],
    keys: tuple[str, str],
    name: str,
    offset: float = 0.0,
) -> None:
    """Marks before and after, with stems, of the steps that have both."""
    points = [
        (step['step'] + offset, 100 * step[keys[0]], 100 * step[keys[1]])
        for step in steps
        if step.get(keys[0]) is not None and step.get(keys[1]) is not None
    ]
    if not points:
        return
    x, before, after = zip(*points, strict=True)
    colour, marker = COLOURS[name], _MARKERS.get(name, 'o')
    axes.vlines(x, before, after, color=colour, linewidth=2.5, alpha=0.3)
    axes.plot(x, after, color=colour, linewidth=0.8, alpha=0.6)
    style = dict(color=colour, marker=marker, **_MARK)
    axes.plot(x, before, markerfacecolor='white', **style)
    axes.plot(x, after, label='H-Mean' if name == 'h_mean' else name, **style)


def _write_ratios(axes: Axes, steps: Sequence[dict]) -> None:
    """H-Mean as a share of its upper bound, under its mark."""
    for step in steps:
        if step['h_mean'] is None or not step['h_mean_upper_bound']:
            continue
        # Above the mark where there is no room below it.
        low = step['h_mean'] < 0.2 * step['h_mean_upper_bound']
        axes.annotate(
            f'{step["h_mean"] / step["h_mean_upper_bound"]:.0%}',
            (step['step'], 100 * step['h_mean']),
            xytext=(0, 7 if low else -7),
            textcoords='offset points',
            ha='left' if low else 'center',
            va='bottom' if low else 'top',
            fontsize=7.5,
        )


def _legend(axes: Axes, hollow: str) -> None:
    """Legend below the panel, where it covers nothing."""
    handles, _ = axes.get_legend_handles_labels()
    style = dict(color=GREY, marker='o', markerfacecolor='white', **_MARK)
    handles.append(Line2D([], [], label=hollow, **style))
    axes.legend(
        handles=handles,
        loc='upper center',
        bbox_to_anchor=(0.5, -0.16),
        ncols=len(handles),
        columnspacing=1.4,
        handletextpad=0.2,
    )
