"""What a benchmark is, and its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.utils import ConfigError, unknown_name
from .suite import NAME, beside


@dataclass(frozen=True)
class Tuning:
    """How the settings of each method are chosen.

    Attributes:
        budget (int): Trials of each method; the first is its config as it
            is.
        settings (dict): Settings of all trials, by dotted key: those that
            score them on other images than the benchmark's.
        search (dict[str, dict[str, list]]): By method the values to try of
            each of its settings, by dotted key; the first ones are searched
            first.
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
        settings (dict[str, Any]): Settings of all trials and runs, by dotted
            key, such as the images that they are scored on. Defaults to {}.
        not_applicable (dict[str, str]): Methods without a run, and why.
        reference (str): The method that the distance of the others is
            taken to. Defaults to ``'retrain'``.
        tune (Tuning | None): Defaults to None: nothing is tuned.
    """

    name: str
    title: str
    runs: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    not_applicable: dict[str, str] = field(default_factory=dict)
    reference: str = 'retrain'
    tune: Tuning | None = None


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
    if not isinstance(content.get('settings', {}), dict):
        raise ConfigError(
            f'benchmark.settings = {content["settings"]!r} in {path}: must be '
            'a dictionary, by dotted key'
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
        for key, values in space.items():
            if not isinstance(values, list | tuple) or not values:
                raise ConfigError(
                    f'{where}.search.{name}[{key!r}] = {values!r}: must be a '
                    'list of the values to try'
                )
    return Tuning(**content)
