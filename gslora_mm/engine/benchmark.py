"""Many methods on one sequence, each with the same tuning budget."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.evaluation.benchmark_scores import mean_h
from gslora_mm.registry import METHODS, class_of
from gslora_mm.utils import ConfigError, load_json, unknown_name
from .plan import ForgettingPlan
from .suite import NAME, Suite, beside, check_settings
from .suite_runs import REPORT_FILE, Outcome, check_amounts, run_suite

TRIALS = 'tune'
RUNS = 'runs'
#: Bases of the sequence that spreads trials over a search space: as many as
#: a method may have settings to be searched.
_PRIMES = (2, 3, 5, 7, 11, 13)


@dataclass(frozen=True)
class Tuning:
    """How the settings of each method are chosen.

    Attributes:
        budget (int): Trials of each method; the first is its config as it
            is.
        settings (dict): Settings of all trials, by dotted key: those that
            score them on other images than the benchmark's.
        search (dict[str, dict[str, list]]): By method the values to try of
            each of its settings, by dotted key.
        steps (int | None): How many steps a trial has, the first ones.
            Defaults to None: all.
        seed (int): Seed of the trials. Defaults to 100, which is none of
            the benchmark's: a lucky draw is not to be chosen.
    """

    budget: int
    settings: dict[str, Any]
    search: dict[str, dict[str, list]]
    steps: int | None = None
    seed: int = 100


@dataclass(frozen=True)
class Benchmark:
    """Methods to be put side by side.

    Attributes:
        name (str): Name of its file.
        title (str): What it is about, for the heading.
        runs (dict[str, str]): Config file of each method.
        not_applicable (dict[str, str]): Methods without a run, and why.
        reference (str): The method that the distance of the others is
            taken to. Defaults to ``'retrain'``.
        tune (Tuning | None): Defaults to None: nothing is tuned.
    """

    name: str
    title: str
    runs: dict[str, str]
    not_applicable: dict[str, str] = field(default_factory=dict)
    reference: str = 'retrain'
    tune: Tuning | None = None


@dataclass(frozen=True)
class Trial:
    """Settings of a method that are tried out.

    Attributes:
        number (int): From 1 on; 1 is the config as it is.
        settings (dict): What differs from the config, by dotted key.
        h_mean (float | None): Mean H-Mean of its steps; None if it was not
            run or failed.
        error (str | None): Why it failed, or None.
    """

    number: int
    settings: dict[str, Any]
    h_mean: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class MethodOutcome:
    """What became of one method of a benchmark.

    Attributes:
        name (str): Its name.
        trials (list[Trial]): What was tried; one trial was not run but
            taken.
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


def load_benchmark(path: str | Path) -> Benchmark:
    """Read a benchmark from a config file.

    The file holds ``benchmark = dict(runs=dict(NAME=CONFIG, ...))`` with
    sequence configs relative to the file, and optionally the other
    attributes of :class:`Benchmark` but its name; ``tune`` is a dictionary
    with the attributes of :class:`Tuning`.

    Args:
        path (str | Path): The file.

    Raises:
        ConfigError: If the file is not a benchmark.
    """
    path = Path(path)
    content = Config.fromfile(path).to_dict().get('benchmark')
    if not isinstance(content, dict):
        raise ConfigError(f'{path} has no benchmark = dict(runs=dict(...))')
    content = {'title': path.stem, **content}
    known = {each.name for each in fields(Benchmark)} - {'name'}
    for key in content:
        if key not in known:
            raise unknown_name('benchmark', key, sorted(known))
    runs = content.get('runs')
    if not isinstance(runs, dict) or not runs:
        raise ConfigError(
            f'benchmark.runs = {runs!r} in {path}: must be a dictionary with '
            'the config of each method by its name'
        )
    without_run = content.get('not_applicable', {})
    if not isinstance(without_run, dict):
        raise ConfigError(
            f'benchmark.not_applicable = {without_run!r} in {path}: must be '
            'a dictionary with a reason by the name of each method'
        )
    if content.get('reference', next(iter(runs))) not in runs:
        raise unknown_name(
            'benchmark.reference', content['reference'], list(runs)
        )
    for name in runs:
        if name in without_run:
            raise ConfigError(
                f'benchmark.not_applicable names {name!r}, which '
                'benchmark.runs has a config of'
            )
        if not NAME.fullmatch(name):
            raise ConfigError(
                f'benchmark.runs.{name}: the name becomes that of a folder '
                'and may hold letters, digits and _ . + -'
            )
    if content.get('tune') is not None:
        content['tune'] = _read_tuning(content['tune'], runs)
    content['runs'] = {
        name: beside(path, base, f'benchmark.runs.{name}')
        for name, base in runs.items()
    }
    return Benchmark(path.stem, **content)


def _read_tuning(content: Any, runs: Mapping) -> Tuning:
    where = 'benchmark.tune'
    if not isinstance(content, dict):
        raise ConfigError(f'{where} = {content!r}: must be a dictionary')
    known = [each.name for each in fields(Tuning)]
    for key in content:
        if key not in known:
            raise unknown_name(where, key, known)
    for key in ('budget', 'settings', 'search'):
        if key not in content:
            raise ConfigError(f'{where}.{key} is missing')
    for key in ('budget', 'steps'):
        value = content.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(
                f'{where}.{key} = {value!r}: must be an integer >= 1'
            )
    if not isinstance(content['settings'], dict) or not content['settings']:
        raise ConfigError(
            f'{where}.settings = {content["settings"]!r}: must be a '
            'dictionary, by dotted key, with what scores the trials on other '
            'images than the runs'
        )
    if not isinstance(content['search'], dict):
        raise ConfigError(
            f'{where}.search = {content["search"]!r}: must be a dictionary'
        )
    for name, space in content['search'].items():
        if name not in runs:
            raise unknown_name(f'{where}.search', name, runs)
        if not isinstance(space, dict):
            raise ConfigError(
                f'{where}.search.{name} = {space!r}: must be a dictionary '
                'with a list of values by dotted key'
            )
        if len(space) > len(_PRIMES):
            raise ConfigError(
                f'{where}.search.{name} has {len(space)} settings; at most '
                f'{len(_PRIMES)} can be searched'
            )
        for key, values in space.items():
            if not isinstance(values, list | tuple) or not values:
                raise ConfigError(
                    f'{where}.search.{name}[{key!r}] = {values!r}: must be a '
                    'list of the values to try'
                )
    return Tuning(**content)


def draw_trials(
    space: Mapping[str, Sequence], own: Mapping[str, Any], budget: int
) -> list[Trial]:
    """Settings to try out, none of them twice.

    The first trial changes nothing. If the space is larger than what is
    left of the budget, the others are spread over it by a Halton sequence:
    every value of every setting has its turn early, and trials are the same
    on every machine.

    Args:
        space (Mapping[str, Sequence]): Values to try of each setting.
        own (Mapping[str, Any]): Their values in the config, which the first
            trial has.
        budget (int): Most trials.

    Returns:
        list[Trial]: At most ``budget`` of them.
    """
    sizes = [len(values) for values in space.values()]
    as_it_is = tuple(
        list(values).index(own[key]) if own[key] in values else None
        for key, values in space.items()
    )
    everything = math.prod(sizes) + (None in as_it_is)
    places = _halton(sizes)
    if everything <= budget:
        places = itertools.product(*map(range, sizes))
    trials, seen = [Trial(1, {})], {as_it_is}
    while len(trials) < min(budget, everything):
        place = next(places)
        if place in seen:
            continue
        seen.add(place)
        settings = {
            key: values[index]
            for (key, values), index in zip(space.items(), place, strict=True)
        }
        trials.append(Trial(len(trials) + 1, settings))
    return trials


def _halton(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Places in a grid, evenly spread from the first ones on."""
    for number in itertools.count(1):
        yield tuple(
            int(_radical_inverse(number, base) * size)
            for base, size in zip(_PRIMES, sizes, strict=False)
        )


def _radical_inverse(number: int, base: int) -> Fraction:
    """The digits of a number mirrored at the point: 0 <= result < 1."""
    inverse, place = Fraction(0), Fraction(1, base)
    while number:
        number, digit = divmod(number, base)
        inverse += digit * place
        place /= base
    return inverse


def setting_of(cfg: Config, key: str) -> Any:
    """The value that a dotted key has in a config.

    Raises:
        ConfigError: If the config does not say.
    """
    value = cfg.to_dict()
    for part in key.split('.'):
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ConfigError(
                f'{key} is to be searched, but is not in the config; write '
                'down there what it is if nothing is searched'
            ) from None
    return value


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
    forgetting = cfg.forgetting.to_dict()
    steps = forgetting['steps']
    if isinstance(steps, dict):
        data = data_of(cfg.train_dataloader)
        classes = data.get('metainfo', {}).get('classes')
        if not classes or forgetting.get('missing') == 'rest':
            raise ConfigError(
                f'benchmark.tune.steps = {count}: which classes the first '
                'steps draw follows from the data; write the names out in '
                'forgetting.steps, or leave tune.steps out'
            )
        steps = ForgettingPlan.from_config(forgetting, classes).steps
    settings = {'forgetting.steps': [list(names) for names in steps[:count]]}
    if forgetting.get('learn'):
        settings['forgetting.learn'] = forgetting['learn'][:count]
    for name in class_of(cfg.method, METHODS).per_step:
        if isinstance(cfg.method.get(name), list | tuple):
            settings[f'method.{name}'] = list(cfg.method[name])[:count]
    return settings


def data_of(loader: Mapping) -> Mapping:
    """Config of a loader's data set, whatever is wrapped around it."""
    data = loader['dataset']
    while 'dataset' in data:
        data = data['dataset']
    return data


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

    Trials go to ``WORK_DIR/tune/METHOD/trial_N``, runs with the settings of
    trial N to ``WORK_DIR/runs/METHOD/trial_N``. What is finished there is
    not run again, what was interrupted goes on.

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
    trials = {
        name: _trials(benchmark, name, tuning, options)
        for name in wanted
        if name not in benchmark.not_applicable
    }
    run = functools.partial(
        run_suite,
        command=command,
        options=options,
        resume=True,
        jobs=jobs,
        say=say,
    )
    if any(len(tried) > 1 for tried in trials.values()):
        say('trials:')
        suite = _trial_suite(benchmark, trials, tuning, options)
        folder = Path(work_dir, TRIALS)
        outcomes = run(suite, folder, seeds=[tuning.seed])
        trials = _judged(trials, {each.run: each for each in outcomes})
    chosen = {name: _choose(tried) for name, tried in trials.items()}
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


def _trials(
    benchmark: Benchmark,
    name: str,
    tuning: Tuning | None,
    options: Mapping | None,
) -> list[Trial]:
    """What there is to be tried of a method whose config has been checked."""
    untouched = Trial(1, {})
    suite = _suite(benchmark, [(name, untouched)])
    with _naming(name):
        cfg = suite.config(*suite.runs, options=options)
        check_settings(cfg)
        if tuning is None:
            return [untouched]
        space = tuning.search.get(name, {})
        own = {key: setting_of(cfg, key) for key in space}
    return draw_trials(space, own, tuning.budget)


def _suite(benchmark: Benchmark, trials: Sequence[tuple[str, Trial]]) -> Suite:
    """Runs of methods with the settings of some trials."""
    runs = {_run_name(name, trial): (name, trial) for name, trial in trials}
    return Suite(
        benchmark.name,
        benchmark.title,
        {run: benchmark.runs[name] for run, (name, _) in runs.items()},
        {run: trial.settings for run, (_, trial) in runs.items()},
    )


def _run_name(name: str, trial: Trial) -> str:
    return f'{name}/trial_{trial.number}'


def _trial_suite(
    benchmark: Benchmark,
    trials: Mapping[str, Sequence[Trial]],
    tuning: Tuning,
    options: Mapping | None,
) -> Suite:
    """The trials of all methods that have a choice."""
    suite = _suite(
        benchmark,
        [
            (name, trial)
            for name, tried in trials.items()
            for trial in tried
            if len(tried) > 1
        ],
    )
    runs = {}
    for run, settings in suite.runs.items():
        runs[run] = {**settings, **tuning.settings}
        if tuning.steps:
            cfg = suite.config(run, options=options)
            runs[run].update(first_steps(cfg, tuning.steps))
    return replace(suite, runs=runs)


def _judged(
    trials: Mapping[str, Sequence[Trial]], outcomes: Mapping[str, Outcome]
) -> dict[str, list[Trial]]:
    """The same trials with what came out of those that were run."""
    judged: dict[str, list[Trial]] = {}
    for name, tried in trials.items():
        judged[name] = []
        for trial in tried:
            outcome = outcomes.get(_run_name(name, trial))
            if outcome is not None and outcome.error:
                trial = replace(trial, error=outcome.error)
            elif outcome is not None:
                report = load_json(outcome.work_dir / REPORT_FILE)
                trial = replace(trial, h_mean=mean_h(report['steps']))
            judged[name].append(trial)
    return judged


def _choose(trials: Sequence[Trial]) -> Trial | None:
    """The best one, of equal ones the first; None if all have failed."""
    if len(trials) == 1:
        return trials[0]
    finished = [trial for trial in trials if trial.h_mean is not None]
    return max(finished, key=lambda trial: trial.h_mean, default=None)


@contextlib.contextmanager
def _naming(method: str) -> Iterator[None]:
    """Let errors say which method they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f'method {method!r}: {error}') from error
