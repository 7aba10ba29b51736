"""Named sets of runs, such as ablations, from one small config each."""

import copy
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from gslora_mm.datasets import ClassOrder
from gslora_mm.lora import inject_lora
from gslora_mm.registry import HOOKS, METHODS, TASKS
from gslora_mm.sequence.dry_run import check_entries
from gslora_mm.sequence.resolve import (
    SEQUENCE_KEYS,
    complete_forgetting,
    complete_schedule,
    method_for_step,
    num_iterations,
    schedulers,
)
from gslora_mm.utils import ConfigError, unknown_name

NAME = re.compile(r'\w[\w.+-]*')


@dataclass(frozen=True)
class Suite:
    """A set of runs that differ in a few settings.

    Attributes:
        name (str): Name of its file.
        title (str): What is compared, for the heading of the table.
        bases (dict[str, str]): Config file of each run.
        runs (dict[str, dict]): Settings of each run, by dotted key as for
            ``--cfg-options``.
    """

    name: str
    title: str
    bases: dict[str, str]
    runs: dict[str, dict]

    def config(
        self, run: str, seed: int = 0, options: Mapping | None = None
    ) -> Config:
        """The sequence config of one run.

        Args:
            run (str): Name of the run.
            seed (int): ``randomness.seed``, ``forgetting.seed`` and, if the
                method's config has one number for it, ``method.seed``,
                where no setting says otherwise. Defaults to 0.
            options (Mapping, optional): More settings, which win.

        Raises:
            ConfigError: If a setting is of an entry that no sequence has.
        """
        cfg = Config.fromfile(self.bases[run])
        settings = {**self.runs[run], **(options or {})}
        known = {*cfg, *SEQUENCE_KEYS, 'randomness'}
        for key in settings:
            if key.partition('.')[0] not in known:
                # MMEngine would add it, and nobody would ever read it.
                raise unknown_name('settings', key.partition('.')[0], known)
        cfg.merge_from_dict(copy.deepcopy(settings))
        seeded = ['randomness', 'forgetting']
        if isinstance(cfg.get('method', {}).get('seed'), int):
            seeded.append('method')
        cfg.merge_from_dict(
            {
                f'{section}.seed': seed
                for section in seeded
                if f'{section}.seed' not in settings
                and 'seed' not in settings.get(section, {})
            }
        )
        return cfg


def find_suite(name_or_file: str, folder: Path) -> Path:
    """The file of a suite.

    Args:
        name_or_file (str): A file ``*.py``, or the name of one in
            ``folder``.
        folder (Path): Where the suites of this project are.

    Raises:
        ConfigError: If there is no such suite; names the nearest ones.
    """
    if name_or_file.endswith('.py'):
        if not Path(name_or_file).is_file():
            raise ConfigError(f'suite = {name_or_file!r}: no such file')
        return Path(name_or_file)
    known = sorted(path.stem for path in folder.glob('*.py'))
    if name_or_file not in known:
        raise unknown_name('suite', name_or_file, known)
    return folder / f'{name_or_file}.py'


def load_suite(path: str | Path, base: str | None = None) -> Suite:
    """Read a suite from a config file.

    The file holds ``suite = dict(base=..., runs=dict(NAME=dict(...), ...))``
    and optionally ``title``. ``base`` is a sequence config, relative to the
    file like MMEngine's ``_base_``; a run may have one of its own. The
    other entries of a run are settings as for ``--cfg-options``:
    ``{'adapter.rank': 4}``.

    Args:
        path (str | Path): The file.
        base (str, optional): Config that takes the place of all bases.

    Raises:
        ConfigError: If the file is not a suite.
    """
    path = Path(path)
    content = Config.fromfile(path).to_dict().get('suite')
    if not isinstance(content, dict):
        raise ConfigError(
            f'{path} has no suite = dict(base=..., runs=dict(...))'
        )
    known = ('title', 'base', 'runs')
    for key in content:
        if key not in known:
            raise unknown_name('suite', key, known)
    runs = content.get('runs')
    if not isinstance(runs, dict) or not runs:
        raise ConfigError(
            f'suite.runs = {runs!r} in {path}: must be a dictionary with the '
            'settings of each run by its name'
        )
    bases = {}
    for name, settings in runs.items():
        if not NAME.fullmatch(name) or not isinstance(settings, dict):
            raise ConfigError(
                f'suite.runs.{name} = {settings!r}: must be a dictionary of '
                'settings; the name becomes that of a folder and may hold '
                'letters, digits and _ . + -'
            )
        own = settings.pop('base', content.get('base'))
        if base is None and own is None:
            raise ConfigError(
                f'suite.runs.{name}: neither it nor suite.base names a '
                'sequence config'
            )
        bases[name] = base or beside(path, own, f'suite.runs.{name}: base')
    return Suite(path.stem, content.get('title', path.stem), bases, runs)


def beside(path: Path, name: object, key: str) -> str:
    """A config file that another one names relative to itself.

    Args:
        path (Path): The file that names it.
        name (object): What it says there.
        key (str): Where it says so, for errors.

    Raises:
        ConfigError: If there is no such file.
    """
    if not isinstance(name, str) or not (path.parent / name).is_file():
        raise ConfigError(
            f'{key} = {name!r}: no such file beside {path}; a config is '
            'named relative to the file that names it'
        )
    return str(path.parent / name)


def check_settings(cfg: Config) -> None:
    """Build what can be built of a sequence config without its data.

    A typing error in one of many runs should not be found hours later.

    Args:
        cfg (Config): The sequence config.

    Raises:
        ConfigError: If an entry is missing, unknown, or has a value that it
            cannot have.
    """
    check_entries(cfg)
    forgetting = complete_forgetting(cfg.forgetting.to_dict())
    schedule = complete_schedule(cfg.schedule.to_dict())
    num_iterations(schedule, per_epoch=1)
    steps, count = forgetting['steps'], 1
    if isinstance(steps, dict):
        count = steps.get('num_steps', ClassOrder.num_steps)
    elif isinstance(steps, list | tuple):
        count = len(steps)
    for step in range(1, count + 1):
        METHODS.build(method_for_step(cfg.method.to_dict(), step, count))
    schedulers(schedule['param_scheduler'], 1)
    for hook in schedule['hooks']:
        HOOKS.build(hook)
    if cfg.get('task') and 'type' in cfg.task:
        TASKS.build(cfg.task.to_dict())
    known = {*inspect.signature(inject_lora).parameters, 'group_by'}
    for name in cfg.get('adapter') or ():
        if name not in known - {'model'}:
            raise unknown_name('adapter', name, sorted(known - {'model'}))
