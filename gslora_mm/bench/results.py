"""The results of a benchmark, as its JSON file has them."""

import copy
import dataclasses
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from gslora_mm.sequence.identity import data_of
from gslora_mm.utils import load_json
from .benchmark import MethodOutcome
from .benchmark_config import Benchmark
from .run import REPORT_FILE, Outcome, conditions
from .scores import run_figures, spread, step_figures
from .trials import setting_of

#: Figures of a step that have a spread over the runs.
STEP_FIGURES = ('forget_score', 'retain_score', 'old_score', 'h_mean')


def collect(
    benchmark: Benchmark,
    outcomes: Sequence[MethodOutcome],
    seeds: Sequence[int],
    tuned: bool,
    options: Mapping | None = None,
) -> dict:
    """Read the reports of all finished runs.

    Args:
        benchmark (Benchmark): The benchmark.
        outcomes (Sequence[MethodOutcome]): What became of its methods.
        seeds (Sequence[int]): Seeds of the runs.
        tuned (bool): Whether settings have been chosen by trials.
        options (Mapping, optional): More settings that trials and runs had.

    Returns:
        dict: All that the table shows, and each run by itself. Methods are
        in the order of their mean H-Mean, the best one first; those that
        lack a seed come after those with all.
    """
    reports = {
        outcome.work_dir: load_json(outcome.work_dir / REPORT_FILE)
        for method in outcomes
        for outcome in method.runs
        if outcome.error is None
    }
    references = {
        outcome.seed: reports[outcome.work_dir]
        for method in outcomes
        for outcome in method.runs
        if method.name == benchmark.reference and outcome.error is None
    }
    settings = {**benchmark.settings, **(options or {})}
    methods = [
        _method(benchmark, settings, method, reports, references)
        for method in outcomes
    ]
    methods.sort(key=_rank)
    first = next(iter(reports.values()), None)
    tune = benchmark.tune if tuned else None
    ways = [conditions(work_dir) for work_dir in reports]
    return dict(
        suite=benchmark.name,
        title=benchmark.title,
        seeds=list(dict.fromkeys(seeds)),
        settings=settings,
        scored_on=_images(benchmark, settings),
        reference=benchmark.reference,
        tuning=tune
        and dict(
            budget=tune.budget,
            steps=tune.steps,
            seed=tune.seed,
            scored_on=_images(benchmark, {**settings, **tune.settings}),
            settings=tune.settings,
            search=tune.search,
        ),
        days=sorted({way['day'] for way in ways if way}),
        conditions=_conditions(ways),
        metric=first and first['pretrained']['metric'],
        pretrained=first
        and [
            {
                key: step[key]
                for key in (
                    'step',
                    'forget_before',
                    'retain_before',
                    'old_before',
                    'h_mean_upper_bound',
                )
            }
            for step in first['steps']
        ],
        methods=methods,
    )


def _method(
    benchmark: Benchmark,
    settings: Mapping,
    method: MethodOutcome,
    reports: Mapping[Path, dict],
    references: Mapping[int, dict],
) -> dict:
    config = benchmark.runs.get(method.name)
    runs = [_run(outcome, reports, references) for outcome in method.runs]
    finished = [run for run in runs if run['error'] is None]
    summary = None
    if finished:
        summary = {
            key: spread([run['figures'][key] for run in finished])
            for key in finished[0]['figures']
        }
        summary['steps'] = [
            {
                key: spread([step[key] for step in steps])
                for key in STEP_FIGURES
            }
            for steps in zip(*(run['steps'] for run in finished), strict=True)
        ]
    return dict(
        name=method.name,
        # As a user would write it: where this project lies says nothing.
        config=config and osp.relpath(config),
        reason=method.reason,
        trials=[dataclasses.asdict(trial) for trial in method.trials],
        chosen=method.chosen and _chosen(benchmark, settings, method),
        summary=summary,
        runs=runs,
    )


def _chosen(
    benchmark: Benchmark, settings: Mapping, method: MethodOutcome
) -> dict:
    """The chosen trial, with the values of all settings searched."""
    trial, values = method.chosen, {}
    if benchmark.tune:
        cfg = Config.fromfile(benchmark.runs[method.name])
        cfg.merge_from_dict(copy.deepcopy({**settings, **trial.settings}))
        values = {
            key: setting_of(cfg, key)
            for key in benchmark.tune.search.get(method.name, ())
        }
    return dict(dataclasses.asdict(trial), values=values)


def _run(
    outcome: Outcome,
    reports: Mapping[Path, dict],
    references: Mapping[int, dict],
) -> dict:
    run = dict(
        seed=outcome.seed, work_dir=outcome.work_dir, error=outcome.error
    )
    if outcome.error is None:
        steps = reports[outcome.work_dir]['steps']
        others = references.get(outcome.seed, {}).get('steps')
        run['steps'] = [
            step_figures(
                step,
                outcome.work_dir / f'step_{step["step"]:02d}',
                others and others[index],
            )
            for index, step in enumerate(steps)
        ]
        run['figures'] = run_figures(run['steps'])
    return run


def _rank(method: Mapping) -> tuple[int, float]:
    """Methods without a result go to the end, before them what lacks one."""
    summary = method['summary']
    lacking = sum(run['error'] is not None for run in method['runs'])
    if summary is None:
        return 2, 0.0
    return int(lacking > 0), -summary['h_mean']['mean']


def _images(benchmark: Benchmark, settings: Mapping) -> str:
    """The list of images that runs are scored on."""
    cfg = Config.fromfile(next(iter(benchmark.runs.values())))
    cfg.merge_from_dict(
        {
            key: value
            for key, value in settings.items()
            if key.startswith('val_dataloader')
        }
    )
    data = data_of(cfg.val_dataloader)
    return data.get('ann_file') or str(data.get('data_prefix'))


def _conditions(ways: Iterable[dict | None]) -> list[dict]:
    """How the runs were run, each way once, whatever the day."""
    found: list[dict] = []
    for way in filter(None, ways):
        facts = {key: value for key, value in way.items() if key != 'day'}
        if facts not in found:
            found.append(facts)
    return found
