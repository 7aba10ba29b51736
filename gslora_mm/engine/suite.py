"""Named sets of runs, such as ablations, from one small config each."""

import copy
import inspect
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from gslora_mm.datasets import ClassOrder
from gslora_mm.lora import inject_lora
from gslora_mm.registry import HOOKS, METHODS, TASKS
from gslora_mm.utils import ConfigError, load_json, unknown_name
from .config_text import QuickTextConfig
from .preflight import check_entries
from .step import dump_config
from .step_config import (
    SEQUENCE_KEYS,
    complete_forgetting,
    complete_schedule,
    method_for_step,
    schedulers,
)

_NAME = re.compile(r'\w[\w.+-]*')


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
            seed (int): ``randomness.seed`` and ``forgetting.seed``.
                Defaults to 0.
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
                raise unknown_name(
                    f'suite.runs.{run}', key.partition('.')[0], known
                )
        seeds = {'randomness.seed': seed, 'forgetting.seed': seed}
        cfg.merge_from_dict(copy.deepcopy({**settings, **seeds}))
        return cfg


@dataclass(frozen=True)
class Outcome:
    """What became of one run of a suite.

    Attributes:
        run (str): Its name.
        seed (int): Its seed.
        work_dir (Path): Its work dir.
        seconds (float): Time it took, all included; 0 if it had been
            finished before.
        error (str | None): Why it failed, or None.
    """

    run: str
    seed: int
    work_dir: Path
    seconds: float = 0.0
    error: str | None = None


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
        if not _NAME.fullmatch(name) or not isinstance(settings, dict):
            raise ConfigError(
                f'suite.runs.{name} = {settings!r}: must be a dictionary of '
                'settings; the name becomes that of a folder and may hold '
                'letters, digits and _ . + -'
            )
        own = settings.pop('base', content.get('base'))
        bases[name] = base or _relative(own, path, f'suite.runs.{name}')
    return Suite(path.stem, content.get('title', path.stem), bases, runs)


def _relative(base: str | None, path: Path, key: str) -> str:
    if not isinstance(base, str):
        raise ConfigError(
            f'{key}: neither it nor suite.base names a sequence config'
        )
    found = path.parent / base
    if not found.is_file():
        raise ConfigError(
            f'{key}: base = {base!r}: no such file beside {path}; a base is '
            'relative to the file that names it'
        )
    return str(found)


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


def run_suite(
    suite: Suite,
    work_dir: str | Path,
    command: Sequence[str],
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    options: Mapping | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run all runs of a suite, one after another, each in its own process.

    Run NAME with seed S has ``WORK_DIR/NAME/seed_S`` for a work dir; its
    config and what it wrote to stderr stand beside it. A run that fails
    does not keep the others from running.

    Args:
        suite (Suite): The suite.
        work_dir (str | Path): Folder for all of them.
        command (Sequence[str]): Command that runs a config, such as
            ``python tools/train.py``; the config and ``--resume`` follow.
        only (Sequence[str]): Names of the runs wanted. Defaults to (): all.
        seeds (Sequence[int]): Seeds to run each with. Defaults to (0, ).
        options (Mapping, optional): More settings for all runs.
        resume (bool): Skip what is finished and go on with what is not.
            Defaults to False.
        say (Callable): Is told what is going on. Defaults to ``print``.

    Returns:
        list[Outcome]: One a run and seed, in their order.

    Raises:
        ConfigError: If a name is unknown, the settings of a run cannot
            work, or there are runs of other settings (or any, without
            ``resume``) in the work dir; nothing has been run then.
    """
    for name in only:
        if name not in suite.runs:
            raise unknown_name('--only', name, suite.runs)
    if not seeds:
        raise ConfigError('--seeds: names no seed')
    planned = [
        (name, seed, Path(work_dir) / name / f'seed_{seed}')
        for name in suite.runs
        if not only or name in only
        for seed in dict.fromkeys(seeds)
    ]
    for name, seed, folder in planned:
        _prepare(suite, name, seed, folder, options, resume)
    outcomes = []
    for number, (name, seed, folder) in enumerate(planned, 1):
        label = f'[{number}/{len(planned)}] {name}, seed {seed}'
        if is_finished(folder):
            say(f'{label}: finished before')
            outcomes.append(Outcome(name, seed, folder))
            continue
        say(label)
        start = time.perf_counter()
        error = _run(command, folder)
        seconds = time.perf_counter() - start
        if error:
            say(f'{label}: failed: {error}')
        outcomes.append(Outcome(name, seed, folder, seconds, error))
    return outcomes


def is_finished(work_dir: str | Path) -> bool:
    """Whether all steps of a run are in its report."""
    path = Path(work_dir) / 'report.json'
    if not path.exists():
        return False
    report = load_json(path)
    return len(report['steps']) == len(report['requests'])


def _prepare(
    suite: Suite,
    name: str,
    seed: int,
    folder: Path,
    options: Mapping | None,
    resume: bool,
) -> None:
    """Write the config of a run, or compare with the one that is there."""
    try:
        cfg = suite.config(name, seed, options)
        cfg.work_dir = str(folder)
        check_settings(cfg)
        cfg = QuickTextConfig(cfg._cfg_dict.to_dict())
    except ConfigError as error:
        raise ConfigError(f'run {name!r}: {error}') from error
    path = _config_file(folder)
    if folder.exists():
        if not resume:
            raise ConfigError(
                f'{str(folder)!r} is there already; pass --resume to skip '
                'what is finished and go on with the rest, or choose another '
                '--work-dir'
            )
        if path.exists() and path.read_text() != cfg.pretty_text:
            raise ConfigError(
                f'{str(folder)!r} holds a run with other settings, those of '
                f'{str(path)!r}; choose another --work-dir, or delete both '
                'to run it anew'
            )
    dump_config(cfg, str(path))


def _config_file(folder: Path) -> Path:
    return folder.parent / f'{folder.name}.py'


def _run(command: Sequence[str], folder: Path) -> str | None:
    """Run one config to its end; the error in one line, or None."""
    log = folder.parent / f'{folder.name}.stderr'
    with open(log, 'w', encoding='utf-8') as file:
        done = subprocess.run(
            [*command, str(_config_file(folder)), '--resume'], stderr=file
        )
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f'killed by signal {-done.returncode}'
    lines = log.read_text(encoding='utf-8').strip().splitlines()
    reason = lines[-1].strip() if lines else 'no message'
    return f'exit status {done.returncode}: {reason}'
