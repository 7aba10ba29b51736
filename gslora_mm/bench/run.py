"""Walking through the runs of a suite, each in a process of its own."""

import contextlib
import datetime
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from mmengine.config import Config

from gslora_mm.sequence.identity import changed_input, checkpoint_sha256
from gslora_mm.sequence.pretrained_scores import share_pretrained_scores
from gslora_mm.sequence.resolve import plain_config
from gslora_mm.sequence.run import PRETRAINED_DIR, SEQUENCE_FILE
from gslora_mm.sequence.step import METRICS_FILE, RESULT_FILE
from gslora_mm.utils import (
    ConfigError,
    atomic_write,
    load_json,
    unknown_name,
)
from .suite import Suite, check_settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

REPORT_FILE = 'report.json'
#: Variables that say how many threads a process computes with.
THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')


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


def run_suite(
    suite: Suite,
    work_dir: str | Path,
    command: Sequence[str],
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    options: Mapping | None = None,
    resume: bool = False,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run all runs of a suite, each in its own process.

    Run NAME with seed S has ``WORK_DIR/NAME/seed_S`` for a work dir; its
    config and what it wrote to stderr stand beside it. A run that fails
    does not keep the others from running.

    A run whose process has outlived the one that started it is waited for,
    not started a second time.

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
        jobs (int): Runs at a time. They share the cores, unless the
            environment says how many threads each is to have. With more
            than one, what they print goes to files beside their work dirs.
            Defaults to 1.
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
    check_amounts(seeds, jobs)
    planned = _planned(suite, Path(work_dir), only, seeds)
    configs = [_config(suite, *each, options, resume) for each in planned]

    def run(number: int) -> Outcome:
        name, seed, folder = planned[number - 1]
        cfg = configs[number - 1]
        label = f'[{number}/{len(planned)}] {name}, seed {seed}'
        waiting = f'{label}: another process is at it; waiting'
        with _lock(folder, lambda: say(waiting)) as lock:
            start = time.perf_counter()
            try:
                # Another process may have run it since it was planned.
                _check_same(cfg, folder)
            except ConfigError as error:
                say(f'{label}: failed: {error}')
                reason = _without_here(str(error))
                return Outcome(name, seed, folder, 0.0, reason)
            if is_finished(folder):
                say(f'{label}: finished before')
                return Outcome(name, seed, folder)
            say(label)
            with atomic_write(_beside(folder, 'py'), 'w') as file:
                file.write(cfg.pretty_text)
            sha256 = checkpoint_sha256(cfg)
            if sha256 is not None:
                share_pretrained_scores(cfg, sha256, configs)
            error = _run(command, folder, jobs, lock)
        seconds = time.perf_counter() - start
        if error:
            say(f'{label}: failed: {error}')
        elif jobs > 1:
            say(f'{label}: {seconds:.0f} s')
        return Outcome(name, seed, folder, seconds, error)

    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(run, range(1, len(planned) + 1)))
    places = {name: place for place, name in enumerate(suite.runs)}
    return sorted(outcomes, key=lambda outcome: places[outcome.run])


def check_runs(
    suite: Suite,
    work_dir: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    options: Mapping | None = None,
) -> None:
    """Raise a ConfigError if :func:`run_suite` could not go on there.

    Only what is there is looked at, and nothing is written or run. Arguments
    are those of :func:`run_suite`.
    """
    for name, seed, folder in _planned(suite, Path(work_dir), (), seeds):
        if folder.exists():
            _config(suite, name, seed, folder, options, resume=True)


def read_seeds(text: str) -> list[int]:
    """Seeds of a list such as ``0,1,2``, each once.

    Raises:
        ConfigError: If it is no such list.
    """
    try:
        return list(dict.fromkeys(map(int, text.split(','))))
    except ValueError:
        raise ConfigError(
            f'--seeds {text!r}: must be whole numbers, such as 0,1,2'
        ) from None


def check_amounts(seeds: Sequence[int], jobs: int) -> None:
    """Raise a ConfigError if there is no seed, a bad one, or no job."""
    if not seeds:
        raise ConfigError('--seeds: names no seed')
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ConfigError(
                f'--seeds: {seed} is no seed; they are from 0 to 2**32 - 1'
            )
    if jobs < 1:
        raise ConfigError(f'--jobs {jobs}: must be at least 1')


def is_finished(work_dir: str | Path) -> bool:
    """Whether all steps of a run are in its report, a half-written one not."""
    try:
        report = load_json(Path(work_dir) / REPORT_FILE)
        return len(report['steps']) == len(report['requests'])
    except (FileNotFoundError, ConfigError, KeyError, TypeError):
        return False


def conditions(work_dir: str | Path) -> dict | None:
    """How a run was run, which its times depend on.

    Args:
        work_dir (str | Path): Its work dir.

    Returns:
        dict | None: ``day``, ``jobs``, how many ran at a time, ``threads``
        of each, and of the machine ``cores``, ``device`` and version of
        ``torch``; None if it was not run by :func:`run_suite`.
    """
    path = _beside(Path(work_dir), 'lock')
    try:
        facts = load_json(path)
    except (FileNotFoundError, ConfigError):
        return None
    # Written when the run started; files of older versions do not say when.
    day = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    return {'day': day, **facts}


def environment(jobs: int) -> dict[str, str]:
    """Variables for one of several runs that share the cores.

    Args:
        jobs (int): Runs at a time.

    Returns:
        dict[str, str]: This process' own, and an equal share of the cores
        where these do not name a number of threads.
    """
    threads = os.environ.get(THREADS[0], str(max(1, num_cores() // jobs)))
    return {**dict.fromkeys(THREADS, threads), **os.environ}


def machine() -> dict[str, Any]:
    """What of this machine the times of a run depend on.

    Returns:
        dict[str, Any]: ``cores``, ``device`` and version of ``torch``.
    """
    has_gpu = torch.cuda.is_available()
    return dict(
        cores=num_cores(),
        device=torch.cuda.get_device_name() if has_gpu else 'CPU',
        torch=torch.__version__,
    )


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _planned(
    suite: Suite, work_dir: Path, only: Sequence[str], seeds: Sequence[int]
) -> list[tuple[str, int, Path]]:
    """Name, seed and work dir of each run, in the order of running."""
    return [
        (name, seed, work_dir / name / f'seed_{seed}')
        # Not all seeds of a run in a row: what slows the machine down for a
        # while is to hit many runs, not one.
        for seed in dict.fromkeys(seeds)
        for name in suite.runs
        if not only or name in only
    ]


def _config(
    suite: Suite,
    name: str,
    seed: int,
    folder: Path,
    options: Mapping | None,
    resume: bool,
) -> Config:
    """The config of a run, compared with the one that may be there."""
    try:
        cfg = suite.config(name, seed, options)
        cfg.work_dir = str(folder)
        check_settings(cfg)
        cfg = plain_config(cfg.to_dict())
    except ConfigError as error:
        raise ConfigError(f'run {name!r}: {error}') from error
    if folder.exists() and not resume:
        raise ConfigError(
            f'{str(folder)!r} is there already; pass --resume to skip what '
            'is finished and go on with the rest, or choose another '
            '--work-dir'
        )
    _check_same(cfg, folder)
    return cfg


def _check_same(cfg: Config, folder: Path) -> None:
    """Raise if there is a run of other settings, or of other files."""
    path = _beside(folder, 'py')
    if folder.exists() and path.exists():
        # However the folder is spelled, it is this one.
        here = dict(work_dir=cfg.work_dir)
        if {**Config.fromfile(path).to_dict(), **here} != cfg.to_dict():
            raise ConfigError(
                f'{str(folder)!r} holds a run with other settings, those of '
                f'{str(path)!r}; choose another --work-dir, or delete both '
                'to run it anew'
            )
    if not is_finished(folder):
        return  # The run finds out itself.
    changed = changed_input(cfg, load_json(folder / REPORT_FILE))
    if changed is not None:
        raise ConfigError(
            f'{str(folder)!r} holds results of another file than {changed} '
            'is now; choose another --work-dir, or delete the results'
        )


def _beside(folder: Path, suffix: str) -> Path:
    """A file of a run, beside its work dir."""
    return folder.parent / f'{folder.name}.{suffix}'


@contextlib.contextmanager
def _lock(folder: Path, wait: Callable[[], None]) -> Iterator[IO]:
    """Let only one process at a time have a run.

    The lock is that of an open file, so that a process which inherits the
    file keeps it, whatever becomes of this one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(_beside(folder, 'lock'), 'a', encoding='utf-8') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # a file system without locks
        yield file


def _run(
    command: Sequence[str], folder: Path, jobs: int, lock: IO
) -> str | None:
    """Run one config to its end; the error in one line, or None."""
    variables = environment(jobs)
    facts = dict(
        day=datetime.date.today().isoformat(),
        jobs=jobs,
        threads=variables[THREADS[0]],
        **machine(),
    )
    lock.truncate(0)
    lock.write(json.dumps(facts))
    lock.flush()
    _remove_half_written(folder)
    log = _beside(folder, 'stderr')
    with contextlib.ExitStack() as files:
        errors = files.enter_context(open(log, 'w', encoding='utf-8'))
        output = None
        if jobs > 1:
            output = files.enter_context(open(_beside(folder, 'stdout'), 'w'))
        done = subprocess.run(
            [*command, str(_beside(folder, 'py')), '--resume'],
            stdout=output,
            stderr=errors,
            env=variables,
            pass_fds=() if fcntl is None else (lock.fileno(),),
        )
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f'killed by signal {-done.returncode}'
    text = log.read_text(encoding='utf-8', errors='replace')
    lines = text.strip().splitlines()
    reason = _without_here(lines[-1].strip() if lines else 'no message')
    return f'exit status {done.returncode}: {reason}'


def _without_here(text: str) -> str:
    """Paths from here on: text is published, and where this is says nothing.

    A working directory that is the root is left in.
    """
    here = Path.cwd()
    if here == here.parent:
        return text
    start = re.escape(f'{here}{os.sep}')
    return re.sub(rf'(?<![\w./-]){start}', '', text)


def _remove_half_written(folder: Path) -> None:
    """Delete results that cannot be read, so that they are made again."""
    for path in (
        folder / REPORT_FILE,
        folder / SEQUENCE_FILE,
        folder / PRETRAINED_DIR / METRICS_FILE,
        *folder.glob(f'step_*/{RESULT_FILE}'),
    ):
        try:
            load_json(path)
        except FileNotFoundError:
            pass
        except ConfigError:
            path.unlink()
