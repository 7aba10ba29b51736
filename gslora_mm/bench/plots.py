"""The plots of a benchmark."""

from collections.abc import Mapping
from pathlib import Path

from .leaderboard import score_name
from .point_plot import Point, plot_points


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
    reference, score = results['reference'], score_name(results)
    times, scores = [], []
    for method in results['methods']:
        summary = method['summary']
        if summary is None:
            continue
        last = summary['steps'][-1]
        h_mean, seconds = summary['h_mean'], summary['seconds']
        for points, x, unit, y in (
            (times, seconds, 1, h_mean),
            (scores, summary['left_score'], 100, last['retain_score']),
        ):
            if None not in (x['mean'], y['mean']):
                points.append(
                    Point(
                        method['name'],
                        unit * x['mean'],
                        100 * y['mean'],
                        unit * (x['std'] or 0),
                        100 * (y['std'] or 0),
                        is_reference=method['name'] == reference,
                    )
                )
    figures = {}
    for title, file, points, labels in (
        (
            'H-Mean against seconds',
            f'{results["suite"]}_seconds.png',
            times,
            ('seconds a step, log scale', 'H-Mean, mean over the steps (%)'),
        ),
        (
            'What is kept against what is left',
            f'{results["suite"]}_forget.png',
            scores,
            (
                f'highest {score}_f or {score}_o of any step (%), '
                'log scale above 1',
                f'{score}_r, last step (%)',
            ),
        ),
    ):
        if points:
            shown = f'{title}: top left is best'
            if any(point.is_reference for point in points):
                shown += f' (diamond: {reference})'
            # Most methods leave little.
            scale = 'log' if points is times else 'symlog'
            plot_points(points, labels, shown, folder / file, scale)
            figures[title] = file
    return figures
