"""What attacks find in the finished runs of a suite, beside retraining."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gslora_mm.audits import Audit
from gslora_mm.utils import ConfigError
from gslora_mm.utils.spread import spread
from gslora_mm.work_dir import WorkDir
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
    for number, each in enumerate(finished, 1):
        label = f'[{number}/{len(finished)}] {each.run.name}, '
        say(f'{label}seed {each.seed}: attacked')
        try:
            found[each.run.name, each.seed] = _figures(each, parts, retrained)
        except ConfigError as error:
            if error.path == '--retrained':
                raise  # it is wrong for all
            say(f'{label}seed {each.seed}: failed: {error}')
            found[each.run.name, each.seed] = dict(error=str(error))
    return found


def _figures(
    outcome: Outcome, parts: str | Path, retrained: Sequence[str]
) -> dict[str, dict]:
    """What the attacks with a column find in the last model of a run."""
    audit = Audit(
        outcome.work_dir,
        retrained=retrained,
        options=ATTACKS,
        parts=parts,
        say=lambda line: None,
    )
    audit.chosen = [each for each in audit.chosen if each.name in ATTACKS]
    entries = audit.entries(audit.suspects())
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
