"""Heat map of the adapter's groups: which of them the method used."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .style import GREY, figure_style, save_figure

# One hue, light to dark; white is left to the groups that are zero.
_BLUES = ListedColormap(colormaps['Blues'](np.linspace(0.12, 1, 256)))
_ZERO = dict(facecolor='white', edgecolor='#C8C8C8', hatch='////', linewidth=0)
_TITLES = {
    'norm': 'norm of the group',
    'update_norm': 'norm of its update',
}


def plot_groups(steps: Sequence[dict], path: str | os.PathLike) -> bool:
    """Draw the norm of every group (rows) after every step (columns).

    Left the norm that the group lasso penalises, right the norm of the
    update B A that is merged into the weights. A group that is exactly zero
    is hatched and says ``0``: that block was left as it was.

    Args:
        steps (Sequence[dict]): Finished steps, entries of report.json.
        path (str | os.PathLike): The PNG file to write, atomically.

    Returns:
        bool: Whether there was anything to draw (some methods have no
        groups).
    """
    names = list(dict.fromkeys(n for step in steps for n in step['groups']))
    if not names:
        return False
    with figure_style():
        height = 0.9 + 0.27 * len(names)
        label = 0.08 * max(map(len, names))
        width = label + 2 * (0.4 + 0.55 * max(len(steps), 3))
        figure = Figure(figsize=(width, height), layout='constrained')
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (key, title) in zip(panels, _TITLES.items(), strict=True):
            _draw(axes, names, steps, key)
            axes.set_title(title)
            axes.set_xlabel('step')
        panels[0].set_yticks(range(len(names)), names)
        panels[1].tick_params(labelleft=False)
        save_figure(figure, path)
    return True


def _draw(
    axes: Axes, names: Sequence[str], steps: Sequence[dict], key: str
) -> None:
    values = np.array(
        [
            [step['groups'].get(name, {}).get(key, np.nan) for step in steps]
            for name in names
        ],
        dtype=float,
    )
    top = np.nanmax(values, initial=0) or 1
    scale = Normalize(0, top)
    shown = np.ma.masked_where(~(values > 0), values)
    axes.imshow(shown, norm=scale, cmap=_BLUES, aspect='auto')
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text = dict(color='white' if scale(value) > 0.5 else 'black')
        if value == 0:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, **_ZERO))
            text = dict(bbox=dict(facecolor='white', edgecolor='none', pad=1))
        axes.text(
            column,
            row,
            four_characters(value),
            fontsize=7,
            ha='center',
            va='center',
            **text,
        )
    axes.set_xticks(range(len(steps)), [step['step'] for step in steps])
    axes.set_xticks(np.arange(len(steps) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which='minor', color='white', linewidth=1.5)
    axes.tick_params(which='both', length=0, labelcolor='black', color=GREY)
    axes.spines[:].set_visible(False)


def four_characters(value: float) -> str:
    """A norm in few characters: 0, .004, 0.31, 2.4, 57."""
    if value == 0:
        return '0'
    if value < 0.01:
        return f'{value:.3f}'[1:] if value >= 0.0005 else '<.001'
    return f'{value:.2f}' if value < 1 else f'{value:.{value < 10:d}f}'
