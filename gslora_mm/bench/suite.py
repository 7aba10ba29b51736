"""Suites: lists of runs that are put side by side, one small file each.

What reads a sequence is imported where it is needed: the runs of a suite are
listed without it, in less than half of the time.
"""

import copy
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.utils import ConfigError, config_path, unknown_name, usable

NAME = re.compile(r'\w[\w.+-]*')


@dataclass(frozen=True)
class Run:
    """One of the runs of a suite, whatever its seed.

    Attributes:
        name (str): Its name.
        base (dict): The entries of its config files.
        settings (dict[str, Any]): What differs from these, by dotted key as
            for ``--cfg-options``; later ones win.
        trials (Sequence[dict[str, Any]]): Settings to try out before it,
            beside the above. Defaults to (): there is nothing to choose.
        folder (str): Of its work dirs, in that of the suite.
    """

    name: str
    base: dict
    settings: dict[str, Any]
    trials: Sequence[dict[str, Any]] = ()
    folder: str = ''

    def config(self, seed: int = 0, options: Mapping | None = None) -> Config:
        """Make its sequence config.

        Args:
            seed (int): ``randomness.seed``, ``forgetting.seed`` and, if the
                method's config has one number for it, ``method.seed``,
                where no setting says otherwise. Defaults to 0.
            options (Mapping, optional): More settings, which win.

        Raises:
            ConfigError: If a setting is of an entry that no sequence has, or
                cannot be merged.
        """
        from gslora_mm.entries import NAMES

        cfg = Config(copy.deepcopy(self.base))
        settings = merged_settings(self.settings, options or {})
        known = {*cfg, *NAMES, 'randomness'}
        for key, value in settings.items():
            if key.partition('.')[0] not in known:
                # MMEngine would add it, and nobody would ever read it.
                raise unknown_name('settings', key.partition('.')[0], known)
            with usable(key):
                cfg.merge_from_dict({key: copy.deepcopy(value)})
        seeded = ['randomness', 'forgetting']
        if isinstance((cfg.get('method') or {}).get('seed'), int):
            seeded.append('method')
        for section in seeded:
            own = {f'{section}.seed': seed, section: {}} | settings
            if 'seed' not in own[section]:
                cfg.merge_from_dict(
                    {f'{section}.seed': own[f'{section}.seed']}
                )
        return cfg


@dataclass(frozen=True)
class Suite:
    """Runs to be put side by side.

    Attributes:
        name (str): Name of its file.
        file (str): The file.
        runs (dict[str, Run]): By name.
        title (str): What is compared, for the heading of the table.
        settings (dict[str, Any]): Of all runs; already in those of each.
        not_applicable (dict[str, str]): What has a row in the table without
            a run, and why.
        reference (str): The run that the distance of the others is taken to.
        trial_settings (dict[str, Any]): Of all trials: those that score them
            on other images than the runs.
        trial_steps (int | None): How many steps a trial has; None: all.
        trial_seed (int): Of the trials, and none of the runs': a lucky draw
            is not to be chosen. Defaults to 100.
    """

    name: str
    file: str
    runs: dict[str, Run]
    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    not_applicable: dict[str, str] = field(default_factory=dict)
    reference: str = 'retrain'
    trial_settings: dict[str, Any] = field(default_factory=dict)
    trial_steps: int | None = None
    trial_seed: int = 100

    def selected(self, only: Sequence[str] = ()) -> list[Run]:
        """The runs wanted, in the order of the suite.

        Args:
            only (Sequence[str]): Their names. Defaults to (): all.

        Raises:
            ConfigError: If a name is unknown, or nothing is left to run.
        """
        known = [*self.runs, *self.not_applicable]
        for name in only:
            if name not in known:
                raise unknown_name('only', name, known)
        runs = [run for run in self.runs.values() if run.name in only]
        if only and not runs:
            reason = self.not_applicable[only[0]]
            raise ConfigError(
                'only',
                valid=f'{only[0]}: nothing to run: {reason}; runs of this '
                f'suite: {", ".join(self.runs)}',
            )
        return runs or list(self.runs.values())


def merged_settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key, those of later layers last, so that they win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            merged.pop(key, None)
            merged[key] = value
    return merged


def find_suite(name_or_file: str, *folders: Path) -> Path:
    """Find the file of a suite.

    Args:
        name_or_file (str): A file ``*.py``, or the name of one in one of the
            folders.
        *folders (Path): Where the suites of this project are.

    Raises:
        ConfigError: If there is no such suite; names the nearest ones.
    """
    if name_or_file.endswith('.py'):
        if not Path(name_or_file).is_file():
            raise ConfigError('suite', name_or_file, 'no such file')
        return Path(name_or_file)
    known = {
        path.stem: path
        for folder in folders
        for path in sorted(folder.glob('*.py'))
    }
    if name_or_file not in known:
        raise unknown_name('suite', name_or_file, known)
    return known[name_or_file]


def load_suite(path: str | Path, base: str | None = None) -> Suite:
    """Read a suite from its file.

    The file holds ``suite = dict(base=FILES, runs=dict(NAME=dict(...), ...))``
    and optionally other attributes of :class:`Suite`. ``base`` are one or
    more config files, merged in their order as MMEngine merges a config into
    its ``_base_``, and like this relative to the file. A run may have a
    ``base`` of its own in place of it, ``_base_`` with files that are merged
    on top of it, and ``trials``; all else in it are settings as for
    ``--cfg-options``: ``{'adapter.rank': 4}`` or ``adapter=dict(rank=4)``.

    Args:
        path (str | Path): The file.
        base (str, optional): Config that takes the place of all ``base``.

    Raises:
        ConfigError: If the file is not a suite.
    """
    path = Path(path)
    cfg = Config.fromfile(path).to_dict()
    content = cfg.get('suite')
    if not isinstance(content, dict):
        valid = 'has no suite = dict(base=..., runs=dict(...))'
        if 'benchmark' in cfg:
            valid += (
                '; its benchmark = dict(...) is of an older version and has '
                'to be rewritten as that, see configs/benchmarks/README.md'
            )
        raise ConfigError('suite', str(path), valid)
    if base is not None and not Path(base).is_file():
        raise ConfigError('base', base, 'no such file')
    with config_path('suite'):
        _check_content(content, path)
        shared = content.pop('base', ())
        shared = [base] if base else _files(path, shared, 'base')
        settings = content.get('settings', {})
        read = functools.cache(lambda file: Config.fromfile(file).to_dict())
        runs = {}
        for name, own in content.pop('runs').items():
            with config_path(f'runs.{name}'):
                files = own.pop('base', shared)
                if files is not shared:
                    files = [base] if base else _files(path, files, 'base')
                if not files:
                    raise ConfigError(
                        '', valid='neither it nor suite.base names a config'
                    )
                entries = Config()
                more = _files(path, own.pop('_base_', ()), '_base_')
                for file in [*files, *more]:
                    entries.merge_from_dict(copy.deepcopy(read(file)))
                trials = own.pop('trials', ())
                _check_trials(trials)
            own = merged_settings(settings, own)
            runs[name] = Run(name, entries.to_dict(), own, trials, name)
    content = {'title': path.stem, **content}
    return Suite(path.stem, str(path), runs, **content)


def _check_content(content: dict, path: Path) -> None:
    """Refuse what a suite cannot have."""
    known = {'base', *(each.name for each in fields(Suite))} - {'name', 'file'}
    for key in content:
        if key not in known:
            raise unknown_name('', key, sorted(known))
    runs = content.get('runs')
    if not isinstance(runs, dict) or not runs:
        raise ConfigError(
            'runs',
            runs,
            f'must be a dictionary with the settings of each run by its name, '
            f'in {path}',
        )
    for name, settings in runs.items():
        if not NAME.fullmatch(name) or not isinstance(settings, dict):
            raise ConfigError(
                f'runs.{name}',
                settings,
                'must be a dictionary of settings; the name becomes that of '
                'a folder and may hold letters, digits and _ . + -',
            )
    for key, what in dict(
        settings='of settings by dotted key',
        trial_settings='of settings by dotted key',
        not_applicable='with a reason by each name',
    ).items():
        if not isinstance(content.get(key, {}), dict):
            raise ConfigError(
                key, content[key], f'must be a dictionary {what}'
            )
    for name in content.get('not_applicable', ()):
        if name in runs:
            raise ConfigError(
                'not_applicable',
                valid=f'names {name!r}, which suite.runs has a config of',
            )
    if content.get('reference', next(iter(runs))) not in runs:
        raise unknown_name('reference', content['reference'], list(runs))
    for key, least in dict(trial_steps=1, trial_seed=0).items():
        value = content.get(key, least)
        if not isinstance(value, int) or value < least:
            raise ConfigError(key, value, f'must be an integer >= {least}')


def _check_trials(trials: Any) -> None:
    """Refuse what is no list of settings to try."""
    if not isinstance(trials, list | tuple) or not all(
        isinstance(settings, dict) and settings for settings in trials
    ):
        raise ConfigError(
            'trials',
            trials,
            'must be a list with a dictionary of settings by dotted key for '
            'each trial; the config as it is comes before them without being '
            'named',
        )
    for number, settings in enumerate(trials):
        if settings in trials[:number]:
            raise ConfigError(
                f'trials[{number}]',
                settings,
                f'is trials[{trials.index(settings)}] again; each trial has '
                'to have settings of its own',
            )


def _files(path: Path, names: Any, key: str) -> list[str]:
    """Find config files that a suite names relative to itself.

    Raises:
        ConfigError: If there is no such file.
    """
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple):
        raise ConfigError(
            key, names, 'must be a config file or a list of them'
        )
    for name in names:
        if not isinstance(name, str) or not (path.parent / name).is_file():
            raise ConfigError(
                key,
                name,
                f'no such file beside {path}; a config is named relative to '
                'the file that names it',
            )
    return [str(path.parent / name) for name in names]


def setting_of(cfg: Config, key: str) -> Any:
    """The value that a setting has: that of the config, else the default.

    Args:
        cfg (Config): A sequence config.
        key (str): Dotted key.

    Raises:
        ConfigError: If neither says, or the config cannot be read.
    """
    from gslora_mm.entries import read_entries

    value: Any = {**cfg.to_dict(), **read_entries(cfg).complete()}
    try:
        for part in key.split('.'):
            value = value[int(part) if isinstance(value, list) else part]
    except (KeyError, IndexError, ValueError, TypeError):
        raise ConfigError(
            key,
            valid='is to be tried out, but is not in the config; write down '
            'there what it is if nothing is tried',
        ) from None
    return value


def check_settings(cfg: Config) -> None:
    """Build what can be built of a sequence config without its data.

    A typing error in one of many runs should not be found hours later.

    Raises:
        ConfigError: If an entry is missing, unknown, or has a value that it
            cannot have.
    """
    from gslora_mm.datasets import ClassOrder
    from gslora_mm.entries import build_all, read_entries

    entries = read_entries(cfg)
    steps, count = entries.forgetting.steps, 1
    if isinstance(steps, dict):
        count = steps.get('num_steps', ClassOrder.num_steps)
    elif isinstance(steps, list | tuple):
        count = len(steps)
    build_all(entries, count)
