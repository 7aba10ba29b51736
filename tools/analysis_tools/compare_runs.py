"""Put finished runs side by side: mean and spread over seeds, per step.

Each argument is NAME=WORK_DIR[,WORK_DIR...]: one row a name and step, with
the mean and the standard deviation over its work dirs. For example

    python tools/analysis_tools/compare_runs.py \\
        plain=work_dirs/s0,work_dirs/s1 proximal=work_dirs/p0 --out table.md
"""

import argparse
import statistics

from gslora_mm.utils import ConfigError, atomic_write
from gslora_mm.utils.command_line import imports


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


with imports(__name__, parse_args):
    from gslora_mm.reports.comparison import comparison_table, figures
    from gslora_mm.work_dir import WorkDir


def read_runs(arguments: list[str]) -> dict[str, list[dict]]:
    """Reports by name."""
    runs = {}
    for argument in arguments:
        name, _, folders = argument.partition('=')
        if not folders:
            raise ConfigError(
                repr(argument), valid='must be NAME=DIR[,DIR...]'
            )
        runs[name] = [
            WorkDir(folder).read_report() for folder in folders.split(',')
        ]
    return runs


def plot(runs: dict[str, list[dict]], path: str) -> None:
    """Mean H over its bound against the mean number of groups at zero."""
    from matplotlib.figure import Figure

    from gslora_mm.reports.style import COLOURS, figure_style, save_figure

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
    with figure_style():
        figure = Figure(figsize=(6, 4), layout='constrained')
        axes = figure.subplots()
        for i, (x, y, name) in enumerate(points):
            axes.plot(x, y, 'o', color=COLOURS['retain'])
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
        axes.grid()
        save_figure(figure, path)


def main() -> None:
    args = parse_args()
    try:
        runs = read_runs(args.runs)
        text = comparison_table(runs)
    except ConfigError as error:
        raise SystemExit(f'error: {error}') from None
    print(text, end='')
    if args.out:
        with atomic_write(args.out, 'w') as file:
            file.write(text)
    if args.plot:
        plot(runs, args.plot)


if __name__ == '__main__':
    main()
