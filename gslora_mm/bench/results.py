"""The results of a suite, as its JSON file has them."""

import os.path as osp
from collections.abc import Mapping, Sequence

from gslora_mm.reports.report import name_of_score
from gslora_mm.sequence.identity import dataset_config
from gslora_mm.utils.spread import spread
from gslora_mm.work_dir import WorkDir
from .depth import distances
from .record import conditions
from .run import Outcome
from .scores import run_figures, step_figures
from .suite import Suite, merged_settings, setting_of
from .tune import best_trial, tried_values

#: Figures of a step that have a spread over the runs.
STEP_FIGURES = ('forget_score', 'retain_score', 'old_score', 'h_mean')
#: What is told of the model before any forgetting.
PRETRAINED = (
    'step',
    'forget_before',
    'retain_before',
    'old_before',
    'h_mean_upper_bound',
)


def collect(
    suite: Suite,
    trials: Mapping[str, Sequence[dict]],
    outcomes: Sequence[Outcome],
    seeds: Sequence[int],
    tuned: bool,
    options: Mapping | None = None,
    audits: Mapping[tuple[str, int], dict] | None = None,
) -> dict:
    """Read the reports of all finished runs.

    Args:
        suite (Suite): The suite.
        trials (Mapping[str, Sequence[dict]]): Trials of all that has a row,
            as :func:`~gslora_mm.bench.tune.run_tuned` returns them.
        outcomes (Sequence[Outcome]): What became of the runs, from there.
        seeds (Sequence[int]): Seeds of the runs.
        tuned (bool): Whether settings have been chosen by trials.
        options (Mapping, optional): More settings that trials and runs had.
        audits (Mapping, optional): What attacks find in the runs, from
            :func:`~gslora_mm.bench.depth.audit_runs`.

    Returns:
        dict: All that the table shows, and each run by itself. Methods are
        in the order of their mean H-Mean, the best one first; those that
        lack a seed come after those with all.
    """
    steps, first = {}, None
    for outcome in outcomes:
        if outcome.error is None:
            report = WorkDir(outcome.work_dir).read_report()
            first = first or report
            steps[outcome.run.name, outcome.seed] = report['steps']
    settings = merged_settings(suite.settings, options or {})
    methods = []
    for name, tried in trials.items():
        best = best_trial(tried)
        reason = suite.not_applicable.get(name)
        if reason is None and best is None:
            reason = f'no trial finished: {tried[0]["error"]}'
        runs = [
            _run(
                outcome,
                steps.get((name, outcome.seed)),
                steps.get((suite.reference, outcome.seed)),
                (audits or {}).get((name, outcome.seed)),
            )
            for outcome in outcomes
            if outcome.run.name == name
        ]
        methods.append(
            dict(
                name=name,
                reason=reason,
                trials=list(tried),
                chosen=None
                if reason
                else _with_values(suite, name, best, options),
                summary=_summary([run for run in runs if not run['error']]),
                runs=runs,
            )
        )
    methods.sort(key=_rank)
    ways = [conditions(each.work_dir) for each in outcomes if not each.error]
    ways = [dict(way) for way in ways if way]
    days = {way.pop('day') for way in ways}
    return dict(
        suite=suite.name,
        # As a user would write it: where this project lies says nothing.
        file=osp.relpath(suite.file),
        title=suite.title,
        seeds=list(dict.fromkeys(seeds)),
        settings=settings,
        scored_on=_images(suite, settings),
        reference=suite.reference,
        tuning=_tuning(suite, settings) if tuned else None,
        days=sorted(days),
        # Each way once.
        conditions=[w for i, w in enumerate(ways) if w not in ways[:i]],
        metric=first and first['pretrained']['metric'],
        attacks=_attacks(audits or {}),
        score=name_of_score(first['pretrained']['metric'])
        if first
        else 'score',
        pretrained=first
        and [
            {key: step[key] for key in PRETRAINED} for step in first['steps']
        ],
        methods=methods,
    )


def _tuning(suite: Suite, settings: Mapping) -> dict | None:
    """How settings were chosen; None if there are no trials."""
    tried = {run.name: run for run in suite.runs.values() if run.trials}
    if not tried:
        return None
    return dict(
        budget=1 + max(len(run.trials) for run in tried.values()),
        steps=suite.trial_steps,
        seed=suite.trial_seed,
        scored_on=_images(
            suite, merged_settings(settings, suite.trial_settings)
        ),
        settings=suite.trial_settings,
        search={name: tried_values(run) for name, run in tried.items()},
    )


def _with_values(
    suite: Suite, name: str, trial: dict, options: Mapping | None
) -> dict:
    """A trial, with the values of all settings that were tried out."""
    run = suite.runs[name]
    cfg = run.config(options=merged_settings(options or {}, trial['settings']))
    values = {key: setting_of(cfg, key) for key in tried_values(run)}
    return dict(trial, values=values)


def _summary(runs: Sequence[Mapping]) -> dict | None:
    """Mean and spread over the finished runs; None without any."""
    if not runs:
        return None
    summary: dict = {
        key: spread([run['figures'][key] for run in runs])
        for key in runs[0]['figures']
    }
    summary['distances'] = distances(runs)
    summary['steps'] = [
        {key: spread([step[key] for step in steps]) for key in STEP_FIGURES}
        for steps in zip(*(run['steps'] for run in runs), strict=True)
    ]
    return summary


def _run(
    outcome: Outcome,
    steps: Sequence[Mapping] | None,
    reference: Sequence[Mapping] | None,
    audit: Mapping | None,
) -> dict:
    """One run by itself; steps are those of its report."""
    run = dict(
        seed=outcome.seed, work_dir=outcome.work_dir, error=outcome.error
    )
    if audit is not None:
        run['audit'] = audit
    if steps is not None:
        work_dir = WorkDir(outcome.work_dir)
        run['steps'] = [
            step_figures(
                step,
                work_dir.step(step['step']),
                reference and reference[index],
            )
            for index, step in enumerate(steps)
        ]
        run['figures'] = run_figures(run['steps'])
    return run


def _attacks(audits: Mapping[tuple[str, int], dict]) -> dict[str, dict]:
    """What attacks find in the models that all runs are compared with."""
    for found in audits.values():
        if 'error' not in found:
            return {
                name: {key: of[key] for key in ('pretrained', 'retrained')}
                for name, of in found.items()
            }
    return {}


def _rank(method: Mapping) -> tuple[int, float]:
    """Methods without a result go to the end, before them what lacks one."""
    summary = method['summary']
    lacking = sum(run['error'] is not None for run in method['runs'])
    if summary is None:
        return 2, 0.0
    return int(lacking > 0), -summary['h_mean']['mean']


def _images(suite: Suite, settings: Mapping) -> str:
    """The list of images that runs are scored on."""
    run = next(iter(suite.runs.values()))
    scored = {k: v for k, v in settings.items() if k.startswith('val_data')}
    data = dataset_config(run.config(options=scored).val_dataloader)
    return data.get('ann_file') or str(data.get('data_prefix'))
