"""Run many methods on one sequence and write a leaderboard.

A benchmark is a suite (see run_suite.py) whose runs have trials, such as
`mini_coco` of configs/benchmarks, or any file like it. Each method first tries
out its settings on images of their own, and then runs with each seed. Started
again, it goes on where it was stopped.

    python tools/analysis_tools/benchmark_methods.py mini_coco --seeds 10,20,30
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
from pathlib import Path

from gslora_mm.utils import ConfigError, atomic_write, load_json, save_json
from gslora_mm.utils.command_line import DictAction, imports

ROOT = Path(__file__).resolve().parents[2]
TRAIN = Path(__file__).resolve().parents[1] / 'train.py'
FOLDERS = ('benchmarks', 'ablations')
#: Flags, by the argument of the library that they set.
FLAGS = dict(
    jobs='--jobs',
    only='--methods',
    options='--cfg-options',
    seeds='--seeds',
    work_dir='--work-dir',
    audit='--audit',
    known='--trials-of',
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'suite', help='name of a benchmark in configs/benchmarks, or a file'
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        default=[],
        metavar='METHOD',
        help='methods wanted; default: all. The table has these alone',
    )
    parser.add_argument(
        '--seeds',
        default='10',
        help='randomness.seed, forgetting.seed and, where the method has one, '
        'method.seed of the runs; default: '
        '%(default)s (with 0, GS-LoRA was developed)',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs, and audits, at a time, which share the cores; '
        'default: 1',
    )
    parser.add_argument(
        '--no-tune',
        action='store_true',
        help='without trials: take the configs as they are',
    )
    parser.add_argument(
        '--trials-of',
        metavar='SUITE.json',
        help='results of the same suite, whose trials are not run again: its '
        'settings are taken',
    )
    parser.add_argument(
        '--audit',
        action='store_true',
        help='attack the last model of each run; columns say how much more is '
        'found than after retraining',
    )
    parser.add_argument(
        '--retrained',
        nargs='+',
        default=[],
        metavar='CHECKPOINT',
        help='what it is compared with; default: the last models of the '
        "suite's reference, one a seed",
    )
    parser.add_argument(
        '--work-dir', help='default: work_dirs/benchmarks/SUITE'
    )
    parser.add_argument(
        '--out',
        default='benchmarks',
        help='folder of SUITE.md, SUITE.json and the plots; default: '
        '%(default)s',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='more settings for all, for example schedule.log_interval=10',
    )
    return parser.parse_args(argv)


with imports(__name__, parse_args, 'the same command goes on'):
    import mmdet.datasets  # noqa: F401  (greets on import)

    from gslora_mm.bench.depth import audit_runs
    from gslora_mm.bench.leaderboard import render_leaderboard
    from gslora_mm.bench.plots import plot_benchmark
    from gslora_mm.bench.results import collect
    from gslora_mm.bench.run import read_seeds
    from gslora_mm.bench.suite import (
        Suite,
        find_suite,
        load_suite,
        merged_settings,
    )
    from gslora_mm.bench.tune import run_tuned, trial_record


def known_trials(args: argparse.Namespace, suite: Suite) -> dict:
    """The trials of results that were written before, by run."""
    path = args.trials_of
    if path is None:
        return {}
    if args.no_tune:
        raise ConfigError('known', path, 'without trials, leave it out')
    try:
        results = load_json(path)
        found, settings = results['suite'], results['settings']
        trials = {
            each['name']: [
                {key: trial[key] for key in trial_record()}
                for trial in each['trials']
            ]
            for each in results['methods']
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            'known', path, f'holds no results of a benchmark: {error}'
        ) from None
    if found != suite.name:
        raise ConfigError(
            'known', path, f'is of {found!r}, not of {suite.name!r}'
        )
    own = merged_settings(suite.settings, args.cfg_options or {})
    if settings != json.loads(json.dumps(own, default=str)):
        raise ConfigError(
            'known', path, f'its runs had {settings}, these have {own}'
        )
    return trials


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; exit with 1 if one of its runs failed."""
    args = parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    say = functools.partial(print, flush=True)
    try:
        folders = (ROOT / 'configs' / name for name in FOLDERS)
        suite = load_suite(find_suite(args.suite, *folders))
        seeds = read_seeds(args.seeds)
        work_dir = args.work_dir or f'work_dirs/benchmarks/{suite.name}'
        trials, outcomes = run_tuned(
            suite,
            work_dir,
            [sys.executable, str(TRAIN)],
            only=args.methods,
            seeds=seeds,
            tune=not args.no_tune,
            options=args.cfg_options,
            jobs=args.jobs,
            say=say,
            known=known_trials(args, suite),
        )
        audits = {}
        if args.audit or args.retrained:
            say('audits:')
            audits = audit_runs(
                outcomes,
                suite.reference,
                Path(work_dir, 'audit'),
                args.retrained,
                say,
                args.jobs,
            )
    except ConfigError as error:
        raise SystemExit(f'error: {error.at(renamed=FLAGS)}') from None
    results = dict(
        command=f'python tools/analysis_tools/{Path(__file__).name} '
        + shlex.join(words),
        **collect(
            suite,
            trials,
            outcomes,
            seeds,
            tuned=not args.no_tune,
            options=args.cfg_options,
            audits=audits,
        ),
    )
    out = Path(args.out)
    save_json(results, out / f'{suite.name}.json')
    text = render_leaderboard(results, plot_benchmark(results, out))
    with atomic_write(out / f'{suite.name}.md', 'w') as file:
        file.write(text)
    print(f'\n{text}', end='')
    failed = [
        each for tried in trials.values() for each in tried if each['error']
    ]
    failed += [each for each in outcomes if each.error]
    if failed:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
