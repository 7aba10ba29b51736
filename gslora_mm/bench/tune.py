"""Trials: settings of each run that are tried out before it."""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.entries import read_entries
from gslora_mm.registry import METHODS, class_of
from gslora_mm.sequence.identity import (
    dataset_config,
    first_difference,
    run_identity,
    subject_identity,
)
from gslora_mm.sequence.plan import ForgettingPlan
from gslora_mm.utils import ConfigError, config_path
from gslora_mm.work_dir import WorkDir
from .run import Outcome, check_amounts, planned_runs, run_all
from .scores import mean_h
from .suite import Run, Suite, check_settings, merged_settings, setting_of

#: Folders of trials and of runs.
TRIALS, RUNS = 'tune', 'runs'
#: Name of the settings that are those of the suite.
AS_CONFIGURED = 'as_configured'


def run_tuned(
    suite: Suite,
    work_dir: str | Path,
    command: Sequence[str],
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    tune: bool = True,
    options: Mapping | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
    known: Mapping[str, Sequence[dict]] | None = None,
) -> tuple[dict[str, list[dict]], list[Outcome]]:
    """Choose the settings of each run by its trials, then run it.

    Trials go to ``WORK_DIR/tune/RUN/SETTINGS``, runs to
    ``WORK_DIR/runs/RUN/SETTINGS``, see :func:`settings_name`. What is
    finished there is not run again, what was interrupted goes on.

    Args:
        suite (Suite): The suite.
        work_dir (str | Path): Folder for all trials and runs.
        command (Sequence[str]): See :func:`run_all`.
        only (Sequence[str]): Names of the runs wanted. Defaults to (): all.
        seeds (Sequence[int]): Seeds of the runs. Defaults to (0, ).
        tune (bool): Whether there are trials; if not, settings are taken as
            they are. Defaults to True.
        options (Mapping, optional): More settings for trials and runs.
        jobs (int): How many run at a time. Defaults to 1.
        say (Callable): Is told what is going on. Defaults to ``print``.
        known (Mapping[str, Sequence[dict]], optional): Trials of an earlier
            benchmark by the name of the run, see :func:`trial_record`; they
            are not run again, unless one of the run has failed.

    Returns:
        tuple[dict[str, list[dict]], list[Outcome]]: The trials of each run
        by its name, see :func:`trial_record`, none where there was nothing
        to choose from; and what became of the runs.

    Raises:
        ConfigError: If a name is unknown, settings cannot work, the work
            dir holds runs of other settings, or the suite has other trials
            than were run before.
    """
    check_amounts(seeds, jobs)
    runs = suite.selected(only)
    tried = [run for run in runs if run.trials and tune]
    if tried:
        _check_arguments(suite, tried, seeds, options or {})
    before = _trials_before(tried, known or {})
    tried = [run for run in tried if run.name not in before]
    # Before hours of trials: those that may be run as they are.
    plain = [_with_settings(run, {}) for run in runs]
    planned_runs(plain, Path(work_dir, RUNS), seeds, options)
    _check_alike(runs, options)
    trials: dict[str, list[dict]] = {
        name: before.get(name, [])
        for name in (*suite.runs, *suite.not_applicable)
        if not only or name in only
    }
    plan = []
    for run in tried:
        for number, settings in enumerate(({}, *run.trials), 1):
            with config_path(context=f'run {run.name!r}'):
                plan.append(_trial(suite, run, settings, options))
            name = plan[-1].folder.partition('/')[2]
            trials[run.name].append(trial_record(number, settings, name))
    walk = functools.partial(
        run_all,
        command=command,
        options=options,
        resume=True,
        jobs=jobs,
        say=say,
    )
    if plan:
        say('trials:')
        outcomes = walk(plan, Path(work_dir, TRIALS), seeds=[suite.trial_seed])
        records = {
            f'{run.name}/{record["name"]}': record
            for run in tried
            for record in trials[run.name]
        }
        for outcome in outcomes:
            record = records[outcome.run.folder]
            record['error'] = outcome.error
            if outcome.error is None:
                steps = WorkDir(outcome.work_dir).read_report()['steps']
                record['h_mean'] = mean_h(steps)
    chosen = [
        _with_settings(run, best['settings'])
        for run in runs
        if (best := best_trial(trials[run.name]))
    ]
    if chosen:
        say('runs:')
    return trials, walk(chosen, Path(work_dir, RUNS), seeds=seeds)


def trial_record(
    number: int = 1,
    settings: Mapping[str, Any] | None = None,
    name: str = AS_CONFIGURED,
) -> dict[str, Any]:
    """What is known of a trial, as the results have it.

    Args:
        number (int): From 1 on; 1 is the run as it is. Defaults to 1.
        settings (Mapping[str, Any], optional): What differs from the run.
        name (str): Of its folder. Defaults to ``'as_configured'``.

    Returns:
        dict[str, Any]: The same with ``h_mean``, mean over its steps, and
        ``error``, both None as long as it has not been run.
    """
    return dict(
        number=number,
        settings=settings or {},
        h_mean=None,
        error=None,
        name=name,
    )


def best_trial(trials: Sequence[dict]) -> dict | None:
    """The best trial, of equal ones the first.

    Args:
        trials (Sequence[dict]): See :func:`trial_record`.

    Returns:
        dict | None: The run as it is if there is nothing to choose from;
        None if all trials have failed.
    """
    if not trials:
        return trial_record()
    finished = [trial for trial in trials if trial['h_mean'] is not None]
    return max(finished, key=lambda trial: trial['h_mean'], default=None)


def settings_name(settings: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Name of a folder for some settings, another one for each.

    Not the number of the trial: results stay where they are when the list
    of trials changes.

    Args:
        settings (Mapping[str, Any]): Values by dotted key.
        keys (Sequence[str]): All keys that settings may have.

    Returns:
        str: Such as ``'lr=0.003,beta=0.6'``, keys by their last part where
        that tells them apart; a hash where values make no name of a file.
    """
    if not settings:
        return AS_CONFIGURED
    last = [key.split('.')[-1] for key in keys]
    short = {
        key: name if last.count(name) == 1 else key
        for key, name in zip(keys, last, strict=True)
    }
    text = ','.join(f'{short[key]}={value}' for key, value in settings.items())
    if re.fullmatch(r'[\w.+=,-]{1,80}', text):
        return text
    data = json.dumps(settings, sort_keys=True, default=str)
    return f'settings_{hashlib.sha256(data.encode()).hexdigest()[:10]}'


def tried_values(run: Run) -> dict[str, list]:
    """Values that the trials of a run try, by dotted key."""
    values: dict[str, list] = {}
    for settings in run.trials:
        for key, value in settings.items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return values


def first_steps(cfg: Config, count: int) -> dict[str, Any]:
    """Settings that end a sequence after its first steps.

    Args:
        cfg (Config): The sequence config.
        count (int): Steps to keep.

    Returns:
        dict[str, Any]: By dotted key.

    Raises:
        ConfigError: If the config does not say what the steps are.
    """
    entry = read_entries(cfg).forgetting
    steps = entry.steps
    if isinstance(steps, dict):
        data = dataset_config(cfg.train_dataloader)
        classes = data.get('metainfo', {}).get('classes')
        if not classes or entry.missing == 'rest':
            raise ConfigError(
                'suite.trial_steps',
                count,
                'which classes the first steps draw follows from the data; '
                'write the names out in forgetting.steps, or leave '
                'trial_steps out',
            )
        steps = ForgettingPlan.make(entry, classes).steps
    settings = {'forgetting.steps': [list(names) for names in steps[:count]]}
    if entry.learn:
        settings['forgetting.learn'] = list(entry.learn[:count])
    for name in class_of(cfg.method, METHODS).per_step:
        if isinstance(cfg.method.get(name), list | tuple):
            settings[f'method.{name}'] = list(cfg.method[name])[:count]
    return settings


def _trials_before(
    runs: Sequence[Run], known: Mapping[str, Sequence[dict]]
) -> dict[str, list[dict]]:
    """Trials of an earlier benchmark, of the runs that it tried."""
    before = {}
    for run in runs:
        records = list(known.get(run.name, ()))
        if not records or any(each['error'] for each in records):
            continue
        found = [record['settings'] for record in records]
        wanted = [{}, *({**settings} for settings in run.trials)]
        if found != wanted:
            raise ConfigError(
                'known',
                found,
                f'the trials of run {run.name!r} are {wanted}; leave it out '
                'to try these',
            )
        before[run.name] = records
    return before


def _with_settings(run: Run, settings: Mapping, *more: Mapping) -> Run:
    """A run with the settings of one of its trials."""
    name = settings_name(settings, list(tried_values(run)))
    return replace(
        run,
        settings=merged_settings(run.settings, settings, *more),
        folder=f'{run.name}/{name}',
    )


def _check_arguments(
    suite: Suite,
    tried: Sequence[Run],
    seeds: Sequence[int],
    options: Mapping,
) -> None:
    """Refuse what would undo what the trials are for."""
    if suite.trial_seed in seeds:
        raise ConfigError(
            'seeds',
            valid=f'{suite.trial_seed} is that of the trials '
            '(suite.trial_seed); runs need other seeds',
        )
    owned = {'forgetting.steps', *suite.trial_settings}
    owned.update(*map(tried_values, tried))
    for option in options:
        for key in sorted(owned):
            if f'{option}.'.startswith(f'{key}.') or key.startswith(
                f'{option}.'
            ):
                raise ConfigError(
                    'options',
                    valid=f'{option} is set by the trials of the suite '
                    f'({key}); change it there, or run without trials',
                )


def _check_alike(runs: Sequence[Run], options: Mapping | None) -> None:
    """Refuse runs that one table cannot show.

    Scores after another start, on other images or of other requests would
    stand side by side and mean different things. How a run trains, what it
    trains on and what is set of its model while it trains are its own.
    """
    wanted = None
    for run in runs:
        cfg = run.config(options=options)
        for key in tried_values(run):
            with config_path(context=f'run {run.name!r}'):
                setting_of(cfg, key)  # the table shows them
        subject = subject_identity(run_identity(cfg))
        wanted = wanted or subject
        difference = first_difference(wanted, subject)
        if difference:
            raise ConfigError(
                '',
                valid=f'{difference}; runs side by side start from the same '
                'model, forget the same and are scored on the same images',
                context=f'run {run.name!r} (here) and {runs[0].name!r} '
                '(there)',
            )


def _trial(
    suite: Suite, run: Run, settings: Mapping, options: Mapping | None
) -> Run:
    """One trial of a run, checked.

    It is not to be scored on the images of the run, and both lists of images
    have to be there, where a config says where.
    """
    trial = _with_settings(run, settings, suite.trial_settings)
    if suite.trial_steps:
        cut = first_steps(trial.config(options=options), suite.trial_steps)
        trial = replace(trial, settings=merged_settings(trial.settings, cut))
    cfg, tried = run.config(options=options), trial.config(options=options)
    check_settings(tried)
    for each in (cfg, tried):
        data = dataset_config(each.val_dataloader)
        root, file = data.get('data_root'), data.get('ann_file')
        if root and file and not Path(root, file).is_file():
            raise ConfigError(
                'val_dataloader.dataset.ann_file',
                file,
                f'no such file in {root!r}; make it before hours of trials '
                '(make mini-coco and so on complete the embedded data sets)',
            )
    if dataset_config(tried.val_dataloader) == dataset_config(
        cfg.val_dataloader
    ):
        raise ConfigError(
            'suite.trial_settings',
            valid='leave the data set of val_dataloader as it is, so that '
            'trials would be scored on the images of the runs; set '
            'val_dataloader.dataset.ann_file, for example',
        )
    return trial
