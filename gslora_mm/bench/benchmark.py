"""Many methods on one sequence, each with the same tuning budget."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.sequence.identity import data_of
from gslora_mm.utils import ConfigError, load_json, unknown_name
from .benchmark_config import Benchmark, Tuning
from .run import REPORT_FILE, Outcome, check_amounts, check_runs, run_suite
from .scores import mean_h
from .suite import Suite, check_settings
from .trials import (
    Search,
    Trial,
    best_trial,
    first_steps,
    next_trials,
    setting_of,
)

TRIALS = 'tune'
RUNS = 'runs'


@dataclass(frozen=True)
class MethodOutcome:
    """What became of one method of a benchmark.

    Attributes:
        name (str): Its name.
        trials (list[Trial]): What was tried; none where there was nothing
            to choose from.
        chosen (Trial | None): Settings that it was run with; None if it was
            not.
        runs (list[Outcome]): Its runs, one a seed.
        reason (str | None): Why it was not run, or None.
    """

    name: str
    trials: list[Trial] = field(default_factory=list)
    chosen: Trial | None = None
    runs: list[Outcome] = field(default_factory=list)
    reason: str | None = None


def _check_options(tuning: Tuning, options: Mapping) -> None:
    """Refuse options that would undo what the tuning sets."""
    owned = {'forgetting.steps', *tuning.settings}
    owned.update(*tuning.search.values())
    for option in options:
        for key in sorted(owned):
            if f'{option}.'.startswith(f'{key}.') or key.startswith(
                f'{option}.'
            ):
                raise ConfigError(
                    f'--cfg-options: {option} is set by benchmark.tune '
                    f'({key}); change it there, or pass --no-tune'
                )


def run_benchmark(
    benchmark: Benchmark,
    work_dir: str | Path,
    command: Sequence[str],
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    tune: bool = True,
    options: Mapping | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> list[MethodOutcome]:
    """Choose the settings of each method, then run it with each seed.

    Trials go to ``WORK_DIR/tune/METHOD/SETTINGS``, runs to
    ``WORK_DIR/runs/METHOD/SETTINGS``, see :attr:`Trial.name`. What is
    finished there is not run again, what was interrupted goes on.

    Args:
        benchmark (Benchmark): The benchmark.
        work_dir (str | Path): Folder for all trials and runs.
        command (Sequence[str]): See :func:`run_suite`.
        methods (Sequence[str]): Names of those wanted. Defaults to (): all.
        seeds (Sequence[int]): Seeds of the runs. Defaults to (0, ).
        tune (bool): Whether settings are chosen by trials; if not, configs
            are taken as they are. Defaults to True.
        options (Mapping, optional): More settings for trials and runs.
        jobs (int): How many run at a time. Defaults to 1.
        say (Callable): Is told what is going on. Defaults to ``print``.

    Returns:
        list[MethodOutcome]: One a method, in the order of the benchmark.

    Raises:
        ConfigError: If a name is unknown, the settings of a method cannot
            work, or the work dir holds runs of other settings.
    """
    check_amounts(seeds, jobs)
    known = [*benchmark.runs, *benchmark.not_applicable]
    for name in methods:
        if name not in known:
            raise unknown_name('--methods', name, known)
    wanted = [name for name in known if not methods or name in methods]
    tuning = benchmark.tune if tune else None
    if tuning is not None:
        _check_options(tuning, options or {})
        if tuning.seed in seeds:
            raise ConfigError(
                f'--seeds: {tuning.seed} is that of the trials '
                '(benchmark.tune.seed); runs need other seeds'
            )
    configs = {
        name: _config(benchmark, name, options)
        for name in wanted
        if name not in benchmark.not_applicable
    }
    if not configs:
        reason = benchmark.not_applicable[wanted[0]]
        raise ConfigError(
            f'--methods {wanted[0]}: nothing to run: {reason}; methods of '
            f'this benchmark: {", ".join(benchmark.runs)}'
        )
    _check_alike(configs)
    searches = {
        name: _search(benchmark, name, cfg, tuning)
        for name, cfg in configs.items()
    }
    run = functools.partial(
        run_suite,
        command=command,
        options=options,
        resume=True,
        jobs=jobs,
        say=say,
    )
    # Before hours of trials: those that may be run as they are.
    suite = _suite(benchmark, [(name, Trial(1, {})) for name in searches])
    check_runs(suite, Path(work_dir, RUNS), seeds=seeds, options=options)
    trials: dict[str, list[Trial]] = {name: [] for name in searches}
    for place in range(max(map(len, searches.values()), default=0)):
        new = {
            name: next_trials(search, trials[name], place, tuning.budget)
            for name, search in searches.items()
        }
        suite = _trial_suite(benchmark, new, tuning, options)
        if suite.runs:
            say(f'trials, setting {place + 1} of each method:')
            outcomes = run(suite, Path(work_dir, TRIALS), seeds=[tuning.seed])
            for name, judged in _judged(new, outcomes).items():
                trials[name] += judged
    chosen = {
        name: best_trial(tried) if tried else Trial(1, {})
        for name, tried in trials.items()
    }
    suite = _suite(
        benchmark, [(name, trial) for name, trial in chosen.items() if trial]
    )
    outcomes = []
    if suite.runs:
        say('runs:')
        outcomes = run(suite, Path(work_dir, RUNS), seeds=seeds)
    found = []
    for name in wanted:
        reason = benchmark.not_applicable.get(name)
        if reason is None and chosen[name] is None:
            reason = f'no trial finished: {trials[name][0].error}'
        found.append(
            MethodOutcome(
                name,
                trials.get(name, []),
                chosen.get(name),
                [each for each in outcomes if each.run.startswith(f'{name}/')],
                reason,
            )
        )
    return found


def _config(
    benchmark: Benchmark, name: str, options: Mapping | None
) -> Config:
    """The config of a method, checked."""
    suite = _suite(benchmark, [(name, Trial(1, {}))])
    with _naming(name):
        cfg = suite.config(*suite.runs, options=options)
        check_settings(cfg)
    return cfg


def _check_alike(configs: Mapping[str, Config]) -> None:
    """Refuse methods that are not about the same model, images or requests.

    Their scores would stand side by side and mean different things.
    """
    (first, cfg), *others = configs.items()
    wanted = _subject(cfg)
    for name, cfg in others:
        for key, value in _subject(cfg).items():
            if value != wanted[key]:
                raise ConfigError(
                    f'method {name!r}: {key} = {value!r}, but '
                    f'{wanted[key]!r} of {first!r}; methods side by side '
                    'start from the same model, forget the same and are '
                    'scored on the same images'
                )


def _subject(cfg: Config) -> dict[str, Any]:
    """By dotted key what all methods of a benchmark have to share."""
    forgetting = cfg.forgetting.to_dict()
    subject = {
        f'forgetting.{key}': forgetting.get(key)
        for key in ('pretrained', 'steps', 'learn', 'missing')
    }
    data = data_of(cfg.val_dataloader)
    for key in ('type', 'data_root', 'ann_file', 'data_prefix'):
        subject[f'val_dataloader.dataset.{key}'] = data.get(key)
    return subject


def _search(
    benchmark: Benchmark, name: str, cfg: Config, tuning: Tuning | None
) -> list[Search]:
    """What is searched of a method; all values are checked."""
    searches = []
    with _naming(name):
        # Also without trials: the table shows what was searched as it is.
        searched = benchmark.tune.search if benchmark.tune else {}
        space = searched.get(name, {})
        own = {key: setting_of(cfg, key) for key in space}
        if tuning is not None:
            _check_images(cfg, tuning.settings)
        if tuning is None or tuning.budget == 1:
            return []
        for key, values in space.items():
            others = [value for value in values if value != own[key]]
            for value in others:
                changed = copy.deepcopy(cfg)
                changed.merge_from_dict({key: value})
                check_settings(changed)
            if others:
                searches.append(Search(key, others))
    return searches


def _check_images(cfg: Config, settings: Mapping) -> None:
    """Refuse to choose on the images that the choice is scored on.

    Both lists of images have to be there, where a config says where.
    """
    tried = copy.deepcopy(cfg)
    # Of the others, some may be for what has trials alone.
    scored = {k: v for k, v in settings.items() if k.startswith('val_data')}
    tried.merge_from_dict(copy.deepcopy(scored))
    for each in (cfg, tried):
        data = data_of(each.val_dataloader)
        root, file = data.get('data_root'), data.get('ann_file')
        if root and file and not Path(root, file).is_file():
            raise ConfigError(
                f'val_dataloader.dataset.ann_file = {file!r}: no such file '
                f'in {root!r}; make it before hours of trials (make mini-coco '
                'and so on complete the embedded data sets)'
            )
    if data_of(tried.val_dataloader) == data_of(cfg.val_dataloader):
        raise ConfigError(
            'benchmark.tune.settings leave the data set of val_dataloader as '
            'it is, so that trials would be scored on the images of the '
            'runs; set val_dataloader.dataset.ann_file, for example'
        )


def _suite(benchmark: Benchmark, trials: Sequence[tuple[str, Trial]]) -> Suite:
    """Runs of methods with the settings of some trials."""
    runs = {_run_name(name, trial): (name, trial) for name, trial in trials}
    return Suite(
        benchmark.name,
        benchmark.title,
        {run: benchmark.runs[name] for run, (name, _) in runs.items()},
        {
            run: {**benchmark.settings, **trial.settings}
            for run, (_, trial) in runs.items()
        },
    )


def _run_name(name: str, trial: Trial) -> str:
    return f'{name}/{trial.name}'


def _trial_suite(
    benchmark: Benchmark,
    trials: Mapping[str, Sequence[Trial]],
    tuning: Tuning,
    options: Mapping | None,
) -> Suite:
    """Trials of all methods."""
    suite = _suite(
        benchmark,
        [(name, trial) for name, new in trials.items() for trial in new],
    )
    runs = {}
    for run, settings in suite.runs.items():
        runs[run] = {**settings, **tuning.settings}
        if tuning.steps:
            cfg = suite.config(run, options=options)
            runs[run].update(first_steps(cfg, tuning.steps))
    return replace(suite, runs=runs)


def _judged(
    trials: Mapping[str, Sequence[Trial]], outcomes: Sequence[Outcome]
) -> dict[str, list[Trial]]:
    """The same trials with what came out of them."""
    by_run = {outcome.run: outcome for outcome in outcomes}
    judged: dict[str, list[Trial]] = {}
    for name, tried in trials.items():
        judged[name] = []
        for trial in tried:
            outcome = by_run[_run_name(name, trial)]
            if outcome.error:
                trial = replace(trial, error=outcome.error)
            else:
                report = load_json(outcome.work_dir / REPORT_FILE)
                trial = replace(trial, h_mean=mean_h(report['steps']))
            judged[name].append(trial)
    return judged


@contextlib.contextmanager
def _naming(method: str) -> Iterator[None]:
    """Let errors say which method they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f'method {method!r}: {error}') from error
