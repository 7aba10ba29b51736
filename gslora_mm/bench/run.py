"""Walking through the runs of a suite, each in a process of its own."""

import contextlib
import datetime
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import Timeout
from mmengine.config import Config

from gslora_mm.sequence.identity import run_identity
from gslora_mm.sequence.resolve import plain_config
from gslora_mm.sequence.step import dump_config
from gslora_mm.utils import (
    ConfigError,
    config_path,
    load_json,
    save_json,
)
from gslora_mm.utils.locks import lock_file
from gslora_mm.work_dir import WorkDir
from .machine import THREADS, environment, machine
from .pretrained_scores import share_pretrained_scores
from .record import check_same, file_beside, read_record
from .suite import Run, check_settings


@dataclass(frozen=True)
class Outcome:
    """What became of a run with one seed.

    Attributes:
        run (Run): The run.
        seed (int): Its seed.
        work_dir (Path): Its work dir.
        seconds (float): Time it took, all included; 0 if it had been
            finished before.
        error (str | None): Why it failed, or None.
    """

    run: Run
    seed: int
    work_dir: Path
    seconds: float = 0.0
    error: str | None = None


def run_all(
    runs: Sequence[Run],
    work_dir: str | Path,
    command: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    options: Mapping | None = None,
    resume: bool = False,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run some runs with some seeds, each in its own process.

    A run with seed S has ``WORK_DIR/FOLDER/seed_S`` for a work dir; beside
    it are its config, what it wrote to stderr, and a record of how it was
    run. A run that fails does not keep the others from running.

    A run whose process has outlived the one that started it is waited for,
    not started a second time.

    Args:
        runs (Sequence[Run]): The runs.
        work_dir (str | Path): Folder for all of them.
        command (Sequence[str]): Command that runs a config, such as
            ``python tools/train.py``; the config and ``--resume`` follow.
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
        ConfigError: If the settings of a run cannot work, or there are runs
            of other settings (or any, without ``resume``) in the work dir;
            nothing has been run then.
        KeyboardInterrupt: On SIGTERM, too; the runs that go on are ended.
    """
    check_amounts(seeds, jobs)
    running: set[subprocess.Popen] = set()
    planned = planned_runs(runs, work_dir, seeds, options, resume)

    def start(number: int) -> Outcome:
        outcome, cfg = planned[number]
        folder = outcome.work_dir
        label = f'[{number + 1}/{len(planned)}] {outcome.run.folder}, '
        label += f'seed {outcome.seed}'
        waiting = f'{label}: another process is at it; waiting'
        with _alone(folder, lambda: say(waiting)):
            begin = time.perf_counter()
            identity = run_identity(cfg)
            try:
                # Another process may have run it since it was planned.
                check_same(identity, folder)
            except ConfigError as error:
                say(f'{label}: failed: {error}')
                return replace(outcome, error=_without_working_dir(str(error)))
            if WorkDir(folder).is_finished:
                say(f'{label}: finished before')
                return outcome
            say(label)
            others = [
                (WorkDir(other.work_dir), known)
                for other, _ in planned
                if (known := read_record(other.work_dir).get('identity'))
            ]
            share_pretrained_scores(WorkDir(folder), identity, others)
            error = _run(command, cfg, identity, folder, jobs, running)
        seconds = time.perf_counter() - begin
        if error:
            say(f'{label}: failed: {error}')
        elif jobs > 1:
            say(f'{label}: {seconds:.0f} s')
        return replace(outcome, seconds=seconds, error=error)

    with ThreadPoolExecutor(jobs) as pool, _interrupted_by_sigterm():
        futures = [pool.submit(start, each) for each in range(len(planned))]
        try:
            outcomes = [future.result() for future in futures]
        except BaseException:
            # Left alone, they would hold the locks of their work dirs.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    places = {run.folder: place for place, run in enumerate(runs)}
    return sorted(outcomes, key=lambda each: places[each.run.folder])


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """A context in which SIGTERM is what Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where nobody may decide about signals
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def planned_runs(
    runs: Sequence[Run],
    work_dir: str | Path,
    seeds: Sequence[int],
    options: Mapping | None = None,
    resume: bool = True,
) -> list[tuple[Outcome, Config]]:
    """What :func:`run_all` is going to run; nothing is written or run.

    Arguments and errors are those of :func:`run_all`.

    Returns:
        list[tuple[Outcome, Config]]: What becomes of each run and seed, as
        long as it has not been run, and its config.
    """
    planned = []
    # Not all seeds of a run in a row: what slows the machine down for a
    # while is to hit many runs, not one.
    for seed, run in itertools.product(dict.fromkeys(seeds), runs):
        folder = Path(work_dir, run.folder, f'seed_{seed}')
        with config_path(context=f'run {run.name!r}'):
            cfg = run.config(seed, options)
            check_settings(cfg)
        cfg.work_dir = str(folder)
        cfg = plain_config(cfg.to_dict())
        if folder.exists() and not resume:
            raise ConfigError(
                'work_dir',
                str(folder),
                'is there already; resume to skip what is finished and go on '
                'with the rest, or choose another',
            )
        check_same(run_identity(cfg), folder)
        planned.append((Outcome(run, seed, folder), cfg))
    return planned


def read_seeds(text: str) -> list[int]:
    """Seeds of a list such as ``0,1,2``, each once.

    Raises:
        ConfigError: If it is no such list.
    """
    try:
        return list(dict.fromkeys(map(int, text.split(','))))
    except ValueError:
        raise ConfigError(
            'seeds', text, 'must be whole numbers, such as 0,1,2'
        ) from None


def check_amounts(seeds: Sequence[int], jobs: int) -> None:
    """Raise a ConfigError if there is no seed, a bad one, or no job."""
    if not seeds:
        raise ConfigError('seeds', valid='names no seed')
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ConfigError(
                'seeds',
                valid=f'{seed} is no seed; they are from 0 to 2**32 - 1',
            )
    if jobs < 1:
        raise ConfigError('jobs', jobs, 'must be at least 1')


@contextlib.contextmanager
def _alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Let only one process at a time start a run, and none that is running.

    The one that started it may have been killed: then the run itself still
    holds the lock of its work dir.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _held(file_beside(folder, 'lock'), wait):
        running = WorkDir(folder).lock
        if running.exists():
            with _held(running, wait):
                pass
        yield


@contextlib.contextmanager
def _held(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file; ``wait`` is called before waiting for it."""
    try:
        lock = lock_file(path)
    except Timeout:
        wait()
        lock = lock_file(path, blocking=True)
    with lock:
        yield


def _run(
    command: Sequence[str],
    cfg: Config,
    identity: dict,
    folder: Path,
    jobs: int,
    running: set[subprocess.Popen],
) -> str | None:
    """Run one config to its end; the error in one line, or None.

    Its process is among those ``running`` until then.
    """
    variables = environment(jobs)
    record = dict(
        day=datetime.date.today().isoformat(),
        jobs=jobs,
        threads=variables[THREADS[0]],
        **machine(),
        identity=identity,
    )
    save_json(record, file_beside(folder, 'json'))
    dump_config(cfg, file_beside(folder, 'py'))
    _remove_half_written(WorkDir(folder))
    log = file_beside(folder, 'stderr')
    with (
        open(log, 'wb') as errors,
        open(file_beside(folder, 'stdout'), 'wb')
        if jobs > 1
        else contextlib.nullcontext() as output,
    ):
        done = subprocess.Popen(
            [*command, str(file_beside(folder, 'py')), '--resume'],
            stdout=output,
            stderr=errors,
            env=variables,
        )
        running.add(done)
        done.wait()
        running.discard(done)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f'killed by signal {-done.returncode}'
    text = log.read_text(encoding='utf-8', errors='replace').strip()
    reason = text.splitlines()[-1].strip() if text else 'no message'
    return f'exit status {done.returncode}: {_without_working_dir(reason)}'


def _without_working_dir(text: str) -> str:
    """Paths from here on: text is published, and where this is says nothing.

    A working directory that is the root is left in.
    """
    here = Path.cwd()
    if here == here.parent:
        return text
    start = re.escape(f'{here}{os.sep}')
    return re.sub(rf'(?<![\w./-]){start}', '', text)


def _remove_half_written(work_dir: WorkDir) -> None:
    """Delete results that cannot be read, so that they are made again."""
    steps = map(work_dir.step, itertools.count(1))
    steps = itertools.takewhile(lambda step: step.path.exists(), steps)
    for path in (
        work_dir.report,
        work_dir.record,
        work_dir.pretrained.metrics,
        *(step.result for step in steps),
    ):
        with contextlib.suppress(FileNotFoundError):
            try:
                load_json(path)
            except ConfigError:
                path.unlink()
