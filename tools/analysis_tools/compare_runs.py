"""Put finished runs side by side: mean and spread over seeds, per step.

Each argument is NAME=WORK_DIR[,WORK_DIR...]: one row a name and step, with
the mean and the standard deviation over its work dirs. For example

    python tools/analysis_tools/compare_runs.py \\
        plain=work_dirs/s0,work_dirs/s1 proximal=work_dirs/p0 --out table.md
"""

import argparse
import statistics
from pathlib import Path

from gslora_mm.utils import ConfigError, atomic_write, load_json

COLUMNS = (
    'AP_f',
    'AP_r',
    'AP_r lost',
    'AP_o',
    'H',
    'H / bound',
    'zero groups',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='NAME=DIR[,DIR...]')
    parser.add_argument('--out', help='Markdown file for the table')
    parser.add_argument(
        '--plot', help='PNG with H against the number of groups at zero'
    )
    return parser.parse_args()


def read_runs(arguments: list[str]) -> dict[str, list[dict]]:
    """Reports by name."""
    runs = {}
    for argument in arguments:
        name, _, folders = argument.partition('=')
        if not folders:
            raise ConfigError(f'{argument!r}: must be NAME=DIR[,DIR...]')
        runs[name] = [
            load_json(Path(folder) / 'report.json')
            for folder in folders.split(',')
        ]
        if len({len(report['steps']) for report in runs[name]}) > 1:
            raise ConfigError(f'{name}: the runs have not equally many steps')
    return runs


def figures(step: dict) -> dict[str, float | None]:
    """The columns of one step of one run; scores in percent."""

    def percent(value: float | None) -> float | None:
        return None if value is None else 100 * value

    before, after = step['retain_before'], step['retain_score']
    bound = step['h_mean_upper_bound']
    groups = step['groups'].values()
    return {
        'AP_f': percent(step['forget_score']),
        'AP_r': percent(step['retain_score']),
        'AP_r lost': percent(before - after)
        if None not in (before, after)
        else None,
        'AP_o': percent(step['old_score']),
        'H': percent(step['h_mean']),
        'H / bound': step['h_mean'] / bound
        if bound and step['h_mean'] is not None
        else None,
        'zero groups': sum(not group['active'] for group in groups),
    }


def summarise(reports: list[dict], step: int) -> dict[str, str]:
    """Mean and standard deviation of every column, as text."""
    rows = [figures(report['steps'][step]) for report in reports]
    cells = {}
    for column in COLUMNS:
        values = [row[column] for row in rows if row[column] is not None]
        digits = {'H / bound': 3, 'zero groups': 1}.get(column, 2)
        if not values:
            cells[column] = '-'
            continue
        cells[column] = f'{statistics.mean(values):.{digits}f}'
        if len(values) > 1:
            cells[column] += f' ± {statistics.stdev(values):.{digits}f}'
    return cells


def table(runs: dict[str, list[dict]]) -> str:
    """A Markdown table, one row a name and step."""
    header = ['Run', 'Runs', 'Step', *COLUMNS]
    lines = [header, ['---'] * 3 + ['---:'] * len(COLUMNS)]
    for name, reports in runs.items():
        for step in range(len(reports[0]['steps'])):
            cells = summarise(reports, step)
            lines.append(
                [name, str(len(reports)), str(step + 1), *cells.values()]
            )
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def plot(runs: dict[str, list[dict]], path: str) -> None:
    """Mean H over its bound against the mean number of groups at zero."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    points = []
    for name, reports in runs.items():
        rows = [figures(s) for report in reports for s in report['steps']]
        ratios = [r['H / bound'] for r in rows if r['H / bound'] is not None]
        if not ratios:
            continue
        points.append(
            (
                statistics.mean(row['zero groups'] for row in rows),
                statistics.mean(ratios),
                name,
            )
        )
    points.sort()
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for i, (x, y, name) in enumerate(points):
        axes.plot(x, y, 'o', color='#0072B2')
        axes.annotate(
            name,
            (x, y),
            (6, 5 if i % 2 else -13),  # neighbours' names do not collide
            textcoords='offset points',
            fontsize=8,
        )
    axes.margins(x=0.15, y=0.1)
    axes.set_xlabel('groups that are exactly zero (mean over the steps)')
    axes.set_ylabel('H-Mean / upper bound')
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(
            file, format='png', dpi=130, metadata={'Software': None}
        )
    plt.close(figure)


def main() -> None:
    args = parse_args()
    try:
        runs = read_runs(args.runs)
    except (ConfigError, FileNotFoundError) as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from None
    text = table(runs)
    print(text, end='')
    if args.out:
        with atomic_write(args.out, 'w') as file:
            file.write(text)
    if args.plot:
        plot(runs, args.plot)


if __name__ == '__main__':
    main()
