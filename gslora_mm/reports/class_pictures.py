"""Classes before and after: the same images after every step."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .classifications import Ranking, classify, read_image, validation_set
from .selection import checkpoints_of, choose_images, load_config, shorten
from .style import COLOURS, figure_style, save_figure

_HEIGHT = 0.75  # inches, of one image
_WIDTH = 1.6  # of one state of the model
_RANKS = 3
_LEGEND = {
    'retained': dict(facecolor=COLOURS['retain'], alpha=0.55),
    'to be forgotten': dict(facecolor=COLOURS['forget'], alpha=0.55),
    'should be gone': dict(
        facecolor='white', edgecolor=COLOURS['forget'], hatch='/////'
    ),
    'another class': dict(facecolor='#DCDCDC'),
}


def draw_pictures(
    work_dir: str | os.PathLike,
    report: Mapping,
    path: str | os.PathLike,
    count: int | None = None,
    device: str | None = None,
) -> bool:
    """Draw what the classifier says before and after each step.

    The stock model of ``pretrained/config.py`` is run with the pre-trained
    checkpoint and each step's ``merged.pth`` on a few validation images: of
    the classes of each step in turn, and of those that are retained.

    Args:
        work_dir (str | os.PathLike): Work dir of a classification sequence.
        report (Mapping): Its report, see :func:`build_report`.
        path (str | os.PathLike): The PNG file to write, atomically.
        count (int, optional): How many images. Defaults to two for each
            finished step and two retained ones, but at most 10.
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
    dataset = validation_set(config)
    truth = [
        classes[int(dataset.get_data_info(index)['gt_label'])]
        for index in range(len(dataset))
    ]
    retained = steps[-1]['retain'] if steps else []
    chosen = choose_images(
        [[name] for name in truth],
        [*requests, retained],
        count or min(2 * (len(steps) + 1), 10),
    )
    if not chosen:
        return False
    # Those of one step together; the retained ones at the end.
    turn = {name: n for n, names in enumerate(requests) for name in names}
    chosen.sort(key=lambda index: turn.get(truth[index], len(requests)))
    columns = dict(
        classify(
            config,
            checkpoints_of(work_dir, steps),
            classes,
            dataset,
            chosen,
            _RANKS,
            device or ('cuda' if torch.cuda.is_available() else 'cpu'),
        )
    )
    images = [read_image(dataset, index) for index in chosen]
    plot_rankings(
        images, [truth[index] for index in chosen], columns, requests, path
    )
    return True


def plot_rankings(
    images: Sequence[np.ndarray],
    truth: Sequence[str],
    columns: Mapping[str, Sequence[Ranking]],
    requests: Sequence[Sequence[str]],
    path: str | os.PathLike,
) -> None:
    """Draw a grid: one row per image, one column per state of the model.

    Args:
        images (Sequence[np.ndarray]): RGB, each of shape (height, width, 3).
        truth (Sequence[str]): True class of each.
        columns (Mapping): By title the ranking of each image: a column
            before any forgetting, then one per step.
        requests (Sequence[Sequence[str]]): Forgotten classes, by step.
        path (str | os.PathLike): The PNG file to write, atomically.
    """
    ever = {name for request in requests for name in request}
    gone: set[str] = set()
    with figure_style():
        figure = Figure(
            figsize=(1.3 + _WIDTH * len(columns), _HEIGHT * len(images) + 0.9),
            layout='constrained',
        )
        figure.get_layout_engine().set(
            w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.02
        )
        grid = figure.subplots(
            len(images),
            1 + len(columns),
            squeeze=False,
            width_ratios=[1.2, *[_WIDTH] * len(columns)],
        )
        for axes, image, name in zip(grid[:, 0], images, truth, strict=True):
            axes.imshow(image, interpolation='bilinear')
            axes.set_axis_off()
            axes.set_title(
                shorten([name], 22), fontsize=6.5, weight='normal', pad=2
            )
        for place, (title, rankings) in enumerate(columns.items()):
            request = requests[place - 1] if place else ()
            gone |= set(request)
            for axes, ranking, name in zip(
                grid[:, place + 1], rankings, truth, strict=True
            ):
                kind = 'retained'
                if name in ever:
                    kind = (
                        'should be gone'
                        if name in gone
                        else ('to be forgotten')
                    )
                _draw_ranking(axes, ranking, name, kind)
            if request:
                title += f'\nforget {shorten(request)}'
            grid[0, place + 1].set_title(title, fontsize=8, loc='center')
        figure.legend(
            handles=[
                Patch(label=label, linewidth=1, **style)
                for label, style in _LEGEND.items()
            ],
            loc='outside lower center',
            ncols=4,
            fontsize=8,
        )
        save_figure(figure, path)


def _draw_ranking(
    axes: Axes, ranking: Ranking, true_name: str, kind: str
) -> None:
    """Bars with their class and score written on them, best on top."""
    for row, (name, score) in enumerate(
        zip(ranking.names, ranking.scores, strict=True)
    ):
        style = _LEGEND[kind if name == true_name else 'another class']
        axes.barh(row, score, height=0.84, linewidth=0.8, **style)
        text = dict(fontsize=6, va='center_baseline')
        axes.text(0.02, row, name[:20], ha='left', **text)
        axes.text(0.98, row, f'{score:.2f}', ha='right', **text)
    axes.set_xlim(0, 1)
    axes.set_ylim(_RANKS - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set(visible=True, color='#CCCCCC', linewidth=0.5)
