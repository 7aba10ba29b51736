"""What attacks find in the finished runs of a suite, beside retraining."""

import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from gslora_mm.audits import Audit
from gslora_mm.utils import ConfigError
from gslora_mm.utils.spread import spread
from gslora_mm.work_dir import WorkDir
from .machine import THREADS, environment
from .run import Outcome

#: The attacks that have a column, with their settings. Of each the last
#: figure counts: the deepest features, the most iterations.
ATTACKS: dict[str, dict] = dict(
    linear_probe=dict(shots=(5,), with_all=False),
    relearning=dict(trained=('all',)),
    localisation={},
)


def audit_runs(
    outcomes: Sequence[Outcome],
    reference: str,
    parts: str | Path,
    retrained: Sequence[str] = (),
    say: Callable[[str], None] = print,
    jobs: int = 1,
) -> dict[tuple[str, int], dict]:
    """Attack the last model of each finished run.

    What is found in a model is kept, so that the pre-trained model and the
    retrained ones are attacked once for all runs, and an audit that was
    stopped goes on.

    Args:
        outcomes (Sequence[Outcome]): What became of the runs.
        reference (str): Name of the run that is retraining: the last models
            of its seeds are the references, unless others are given.
        parts (str | Path): Folder of what is found.
        retrained (Sequence[str]): Stock checkpoints of models that never
            learned what is forgotten. Defaults to ().
        say (Callable): Is told what is going on. Defaults to ``print``.
        jobs (int): Models attacked at a time, each in a process of its own.
            They share the cores as runs do. Defaults to 1.

    Returns:
        dict: By name of the run and seed either ``error`` or, by name of the
        attack, ``after``, ``pretrained`` and ``retrained`` as in
        ``audit.json``, and ``distance``, how much more is found than in the
        mean of the retrained models.

    Raises:
        ConfigError: If there is nothing to compare with.
    """
    finished = [each for each in outcomes if each.error is None]
    retrained = list(retrained) or [
        str(_last_model(each))
        for each in finished
        if each.run.name == reference
    ]
    if finished and not retrained:
        raise ConfigError(
            'audit',
            valid=f'what attacks find says nothing beside no retrained model; '
            f'let {reference!r} be one of the runs, or give --retrained',
        )
    found = {}
    with contextlib.closing(
        _all_figures(finished, parts, retrained, jobs)
    ) as figures_of:
        for number, each in enumerate(finished, 1):
            label = f'[{number}/{len(finished)}] {each.run.name}, '
            label += f'seed {each.seed}'
            say(f'{label}: attacked')
            figures = found[each.run.name, each.seed] = next(figures_of)()
            if 'error' in figures:
                say(f'{label}: failed: {figures["error"]}')
    return found


def _all_figures(
    outcomes: Sequence[Outcome],
    parts: str | Path,
    retrained: Sequence[str],
    jobs: int,
) -> Iterator[Callable[[], dict[str, dict]]]:
    """What gives the figures of each run, or waits for them, in order."""
    tasks = [
        (str(each.work_dir), str(parts), retrained, ATTACKS)
        for each in outcomes
    ]
    if not tasks:
        return
    # Alone: it attacks the models that all are compared with.
    yield functools.partial(_figures, *tasks[0])
    if jobs == 1:
        yield from (functools.partial(_figures, *task) for task in tasks[1:])
        return
    threads = int(environment(jobs)[THREADS[0]])
    with ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context('spawn'),
        torch.set_num_threads,
        (threads,),
    ) as pool:
        futures = [pool.submit(_figures, *task) for task in tasks[1:]]
        try:
            yield from (future.result for future in futures)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, or Ctrl-C


def _figures(
    work_dir: str,
    parts: str,
    retrained: Sequence[str],
    attacks: Mapping[str, Mapping],
) -> dict[str, dict]:
    """What attacks find in the last model of a run, or ``error``.

    Raises:
        ConfigError: If a retrained model is wrong, as it is for all runs.
    """
    try:
        audit = Audit(
            work_dir,
            retrained=retrained,
            options=attacks,
            parts=parts,
            say=lambda line: None,
        )
        audit.chosen = [each for each in audit.chosen if each.name in attacks]
        entries = audit.entries(audit.suspects())
    except ConfigError as error:
        if error.path == '--retrained':
            raise
        return dict(error=str(error))
    last = {entry['name']: entry for entry in entries}
    return {
        name: dict(
            {key: entry[key] for key in ('after', 'pretrained', 'retrained')},
            distance=entry['after']
            - sum(entry['retrained']) / len(entry['retrained']),
        )
        for name, entry in last.items()
    }


def _last_model(outcome: Outcome) -> Path:
    """The stock checkpoint of the last step of a finished run."""
    work_dir = WorkDir(outcome.work_dir)
    last = work_dir.read_report()['steps'][-1]['step']
    return work_dir.step(last).merged


def distances(runs: Sequence[Mapping]) -> dict[str, dict]:
    """Mean and spread over runs of what attacks find more.

    Args:
        runs (Sequence[Mapping]): With ``audit`` as :func:`audit_runs` has
            it, those that were attacked.

    Returns:
        dict: See :func:`~gslora_mm.utils.spread.spread`, by attack.
    """
    audits = [run.get('audit') or {} for run in runs]
    return {
        name: spread(
            [each[name]['distance'] for each in audits if name in each]
        )
        for name in ATTACKS
    }
