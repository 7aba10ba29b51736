"""The plots of a benchmark."""

from collections.abc import Mapping
from pathlib import Path

from .point_plot import REFERENCE, Point, plot_points


def plot_benchmark(results: Mapping, folder: Path) -> dict[str, str]:
    """Draw H-Mean against seconds, and what is kept against what is left.

    Args:
        results (Mapping): As for
            :func:`gslora_mm.bench.leaderboard.render_leaderboard`.
        folder (Path): Where the figures go.

    Returns:
        dict[str, str]: File of each figure in the folder, by its title;
        empty if no method has a result.
    """
    reference, score = results['reference'], results['score']
    summaries = {
        method['name']: method['summary']
        for method in results['methods']
        if method['summary']
    }
    figures = {}
    for title, key, unit, labels, scale in (
        (
            'H-Mean against seconds',
            'seconds',
            1,
            ('seconds a step, log scale', 'H-Mean, mean over the steps (%)'),
            'log',
        ),
        (
            'What is kept against what is left',
            'left_score',
            100,
            (
                f'highest {score}_f or {score}_o of any step (%), '
                'log scale above 1',
                f'{score}_r, last step (%)',
            ),
            'symlog',  # most methods leave little
        ),
    ):
        points = []
        for name, summary in summaries.items():
            x, y = summary[key], summary['h_mean']
            if key == 'left_score':
                y = summary['steps'][-1]['retain_score']
            if None in (x['mean'], y['mean']):
                continue
            scaled = unit * x['mean'], 100 * y['mean']
            scaled += unit * (x['std'] or 0), 100 * (y['std'] or 0)
            marker = REFERENCE if name == reference else 'o'
            points.append(Point(name, *scaled, marker))
        if points:
            shown = f'{title}: top left is best'
            if any(point.marker == REFERENCE for point in points):
                shown += f' (diamond: {reference})'
            file = f'{results["suite"]}_{key.removesuffix("_score")}.png'
            file = file.replace('_left.', '_forget.')
            plot_points(points, labels, shown, folder / file, scale)
            figures[title] = file
    return figures
