"""Run a named set of configs and put the results into one table.

A suite is a small config of configs/ablations, such as `rank`, or of
configs/benchmarks, or any file like them. Its runs go one after another, each
in a process of its own; one that fails is reported at the end and does not
keep the others from running.

    python tools/analysis_tools/run_suite.py rank --seeds 0,10,20 --resume
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gslora_mm.utils import (
    ConfigError,
    atomic_write,
    config_path,
    save_json,
)
from gslora_mm.utils.command_line import DictAction, imports
from gslora_mm.utils.quiet import no_prints

if TYPE_CHECKING:
    from gslora_mm.bench.run import Outcome

ROOT = Path(__file__).resolve().parents[2]
TRAIN = Path(__file__).resolve().parents[1] / 'train.py'
FOLDERS = ('ablations', 'benchmarks')
#: Flags, by the argument of the library that they set.
FLAGS = {
    name: f'--{name.replace("_", "-")}'
    for name in ('base', 'only', 'seeds', 'work_dir')
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'suite',
        help='name of a suite in configs/ablations or configs/benchmarks, or '
        'a file',
    )
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='RUN', help='runs wanted'
    )
    parser.add_argument(
        '--seeds',
        default='0',
        help='randomness.seed, forgetting.seed and, where the method has one, '
        'method.seed of the runs; default: 0',
    )
    parser.add_argument(
        '--base', help='sequence config in place of those of the suite'
    )
    parser.add_argument(
        '--work-dir', help='default: work_dirs/NAME_OF_THE_SUITE'
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='skip finished runs, go on with the others',
    )
    parser.add_argument(
        '--list', action='store_true', help='list the runs, run nothing'
    )
    parser.add_argument(
        '--dump',
        metavar='FOLDER',
        help='write the whole config of each run, with the first seed, which '
        'tools/train.py can run; run nothing',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='more settings for all, for example schedule.log_interval=10',
    )
    return parser.parse_args(argv)


with imports(__name__, parse_args, 'the same command with --resume goes on'):
    from gslora_mm.bench.suite import (
        Run,
        Suite,
        check_settings,
        find_suite,
        load_suite,
    )
    from gslora_mm.work_dir import WorkDir


def render(suite: Suite, outcomes: list[Outcome]) -> str:
    """The table of what is finished, and what failed, as Markdown."""
    from gslora_mm.reports.comparison import SCORES_AND_COST, comparison_table

    reports: dict[str, list[dict]] = {}
    for outcome in outcomes:
        if outcome.error is None:
            reports.setdefault(outcome.run.name, []).append(
                WorkDir(outcome.work_dir).read_report()
            )
    parts = [f'# {suite.title}\n']
    if reports:
        parts.append(comparison_table(reports, SCORES_AND_COST))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        parts.append(f'{len(failed)} of {len(outcomes)} failed:\n')
        parts.append(
            ''.join(
                f'* {each.run.name}, seed {each.seed}: {each.error} '
                f'(`{each.work_dir}.stderr`)\n'
                for each in failed
            )
        )
    return '\n'.join(parts)


def dump(
    runs: list[Run], folder: Path, seed: int, options: dict | None
) -> None:
    """Write the whole config of each run as one file."""
    for run in runs:
        with config_path(context=f'run {run.name!r}'):
            cfg = run.config(seed, options)
            check_settings(cfg)
        path = folder / f'{run.name}.py'
        with atomic_write(path, 'w') as file:
            file.write(cfg.pretty_text)
        print(path)


def main(argv: list[str] | None = None) -> None:
    """Run the suite; exit with 1 if one of its runs failed."""
    args = parse_args(argv)
    try:
        folders = (ROOT / 'configs' / name for name in FOLDERS)
        suite = load_suite(find_suite(args.suite, *folders), args.base)
        runs = suite.selected(args.only)
        if args.list:
            for run in runs:
                print(f'{run.name}: {run.settings}')
            return
        # Not before: it takes longer than a list.
        with no_prints():
            import mmdet.datasets  # noqa: F401  (greets on import)

            from gslora_mm.bench.run import read_seeds, run_all
        seeds = read_seeds(args.seeds)
        if args.dump:
            dump(runs, Path(args.dump), seeds[0], args.cfg_options)
            return
        work_dir = Path(args.work_dir or f'work_dirs/{suite.name}')
        outcomes = run_all(
            runs,
            work_dir,
            [sys.executable, str(TRAIN)],
            seeds=seeds,
            options=args.cfg_options,
            resume=args.resume,
            say=lambda line: print(line, flush=True),
        )
        text = render(suite, outcomes)
    except ConfigError as error:
        raise SystemExit(f'error: {error.at(renamed=FLAGS)}') from None
    print(f'\n{text}', end='')
    with atomic_write(work_dir / 'suite.md', 'w') as file:
        file.write(text)
    save_json(
        [
            dict(
                run=each.run.name,
                seed=each.seed,
                settings=each.run.settings,
                work_dir=each.work_dir,
                seconds=each.seconds,
                error=each.error,
            )
            for each in outcomes
        ],
        work_dir / 'suite.json',
    )
    if any(each.error is not None for each in outcomes):
        raise SystemExit(1)


if __name__ == '__main__':
    main()
