"""Audits of the finished steps of a sequence."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from gslora_mm.registry import ATTACKS, registered
from gslora_mm.utils import ConfigError, save_json, unknown_name
from gslora_mm.utils.atomic import atomic_path
from gslora_mm.utils.checkpoint import local_path, sha256_of
from gslora_mm.utils.errors import config_path
from gslora_mm.version import __version__
from gslora_mm.work_dir import WorkDir
from .base import BaseAttack
from .evidence import Evidence, Suspect
from .outcome import Outcome
from .retrained import make_retrained
from .verdict import Spread, compare, training_spreads

#: A retrained model names at most this share of the objects of a class that
#: it never learned: by its likeliest name, and a detector with this score.
UNKNOWN = 0.05
NAMED_FROM = 0.3

#: Findings of an attack on one model: settings and outcomes, in order.
Findings = list[tuple[dict, Outcome]]


def known_attacks() -> dict[str, type[BaseAttack]]:
    """All attacks by the names that a command line and reports use."""
    return {cls.name: cls for cls in registered(ATTACKS).values()}


@dataclass
class Audit:
    """Attacks on the models that a sequence left in its work dir.

    Args:
        work_dir (str | os.PathLike): Work dir of a sequence.
        step (int, optional): Which finished step. Defaults to the last one.
        retrained (Sequence[str]): Stock checkpoints of models of the same
            architecture and label space that never learned the classes
            forgotten up to the step. Without one there is no verdict.
        candidate (str, optional): Stock checkpoint to attack in place of the
            model after the step, such as a second retrained model, which
            has to pass: an audit of the audit. Defaults to None.
        make_retrained (int): How many of these to train, if none is given.
        attacks (Sequence[str], optional): Names of attacks. Defaults to all
            that fit the model.
        options (Mapping): Settings by attack, such as
            ``dict(relearning=dict(shots=10))``.
        seeds (Sequence[int]): Of whatever an attack draws.
        max_images (int): Most training images that are read.
        parts (str | os.PathLike, optional): Folder of what is found in each
            model, which audits of several runs may share. Defaults to one in
            the work dir.
        say (Callable): Is told about progress. Defaults to ``print``.

    Attributes:
        chosen (list[BaseAttack]): The attacks to run.
        not_run (list[dict]): Those that are not, with reasons.

    Raises:
        ConfigError: If anything is wrong; nothing has been attacked then.
    """

    work_dir: str | os.PathLike
    step: int | None = None
    retrained: Sequence[str] = ()
    candidate: str | None = None
    make_retrained: int = 0
    attacks: Sequence[str] | None = None
    options: Mapping[str, Mapping] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    max_images: int = 2000
    parts: str | os.PathLike | None = None
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.run = WorkDir(self.work_dir)
        self.record = self.run.read_record()
        self._check_pretrained()
        results = {r['step']: r for r in self.run.read_results(gaps=True)}
        if not results:
            raise ConfigError(
                'work_dir', str(self.run.path), 'holds no finished step'
            )
        step = max(results) if self.step is None else self.step
        if step not in results:
            raise ConfigError(
                'step',
                step,
                f'not a finished step of {str(self.run.path)!r}; finished '
                f'are {", ".join(map(str, results))}',
            )
        self.step, result = step, results[step]
        forgotten = [*result['forget'], *(result.get('old') or ())]
        classes = self.record['classes']
        self.evidence = Evidence(
            Config.fromfile(self.run.step(step).config),
            classes,
            [name for name in classes if name in forgotten],
            self.seeds,
            self.max_images,
        )
        self.chosen, self.not_run = self._choose()

    def _choose(self) -> tuple[list[BaseAttack], list[dict]]:
        """The attacks to run, and those that are not, with reasons."""
        known = known_attacks()
        for name in (*(self.attacks or ()), *self.options):
            if name not in known:
                raise unknown_name('attacks', name, known)
        chosen, not_run = [], []
        for name, cls in known.items():
            reason = None
            if self.attacks is not None and name not in self.attacks:
                reason = 'not asked for'
            else:
                with config_path('options'):
                    try:
                        attack = cls(**self.options.get(name, {}))
                    except TypeError as error:
                        raise ConfigError(
                            name, self.options[name], str(error)
                        ) from None
                reason = attack.why_not(self.evidence)
            if reason is None:
                chosen.append(attack)
            else:
                not_run.append(dict(name=name, reason=reason))
            if reason and self.attacks is not None and name in self.attacks:
                raise ConfigError('attacks', name, reason)
        return chosen, not_run

    def _check_pretrained(self) -> None:
        """Refuse another file in place of what the sequence began with."""
        path = self.record['pretrained_path']
        expected = self.record['checkpoint_sha256']
        digest = sha256_of(local_path(path))
        if digest != expected:
            raise ConfigError(
                'forgetting.pretrained',
                path,
                'is not the file that this sequence started from: its '
                f'SHA-256 is {digest[:12]}..., that of '
                f'{self.run.record.name} {expected[:12]}...',
            )

    def suspects(self) -> list[Suspect]:
        """The models to attack; those to be retrained are, first."""
        record = self.record
        paths = {
            'pretrained': record['pretrained_path'],
            'after': self.candidate or str(self.run.step(self.step).merged),
        }
        retrained = list(self.retrained)
        if self.make_retrained and not retrained:
            retrained = make_retrained(
                Config.fromfile(self.run.config),
                list(self.evidence.kept),
                self.run.audit / f'step_{self.step:02d}',
                self.make_retrained,
                self.say,
            )
        for number, path in enumerate(retrained, 1):
            paths[f'retrained {number}'] = path
        suspects = []
        for name, path in paths.items():
            allow = name == 'pretrained' and record.get('allow_pickle', False)
            flag = '--retrained' if ' ' in name else '--candidate'
            renamed = dict.fromkeys((name, 'forgetting.pretrained'), flag)
            with config_path(renamed={} if name == 'pretrained' else renamed):
                suspect = Suspect(
                    name, path, sha256_of(local_path(path)), allow
                )
                self.evidence.model(suspect)
            suspects.append(suspect)
        self.evidence.original = suspects[0]
        for suspect in suspects[2:]:
            self._check_retrained(suspect)
        return suspects

    def _check_retrained(self, suspect: Suspect) -> None:
        """Refuse a model that knows a class by the name of its own head."""
        found = self._cached(
            'named', {}, suspect, lambda: [({}, self._named(suspect))]
        )
        scores = found[0][1].per_class
        worst = max(scores, key=lambda name: np.nan_to_num(scores[name][0]))
        if scores[worst][0] > UNKNOWN:
            raise ConfigError(
                '--retrained',
                suspect.path,
                f'this model knows {worst!r}: it names '
                f'{100 * scores[worst][0]:.1f} % of its objects, so it is no '
                'model that never learned it; valid is one trained without '
                f'{", ".join(self.evidence.gone)}',
            )

    def _named(self, suspect: Suspect) -> Outcome:
        """Share of forgotten objects that a model gives their own name.

        (AP does not tell: it only asks for the order of scores, and a row
        that was trained to be silent still ranks what looks like its class.)
        """
        rows = self.evidence.rows(suspect, 'validation')
        score, label = rows.probabilities.max(1)
        is_named = label == rows.labels
        if self.evidence.task.has_background:
            is_named &= score >= NAMED_FROM
        return Outcome.of_rows(is_named, rows.labels, self.evidence.gone)

    def attack(self) -> dict:
        """Run all attacks, and write ``audit.json``.

        What is finished is not computed again when the audit is repeated,
        killed or not.

        Returns:
            dict: What is written, see docs/en/audits.md.
        """
        suspects = self.suspects()
        self._announce(suspects)
        entries = self.entries(suspects)
        result = dict(
            step=self.step,
            claim='concept',
            task=self.record['task'],
            classes=list(self.evidence.gone),
            checkpoint_sha256=suspects[1].sha256,
            pretrained_sha256=suspects[0].sha256,
            retrained=[each.path for each in suspects[2:]],
            retrained_sha256=[each.sha256 for each in suspects[2:]],
            seeds=list(self.seeds),
            training_images=len(self.evidence.training),
            validation_images=len(self.evidence.validation),
            version=__version__,
            attacks=entries,
            not_run=self.not_run,
        )
        path, _ = self.files
        save_json(result, path)
        return result

    def entries(self, suspects: Sequence[Suspect]) -> list[dict]:
        """Run all attacks; nothing but what each finds in a model is kept.

        Args:
            suspects (Sequence[Suspect]): See :meth:`suspects`.

        Returns:
            list[dict]: Entries of ``attacks`` in ``audit.json``.
        """
        found, seconds = [], []
        for attack in self.chosen:
            start = time.perf_counter()
            found.append(
                [
                    self._cached(
                        attack.name,
                        asdict(attack),
                        suspect,
                        lambda a=attack, s=suspect: list(
                            a.measure(self.evidence, s)
                        ),
                    )
                    for suspect in suspects
                ]
            )
            seconds.append(time.perf_counter() - start)
            self.say(f'{attack.name}: {seconds[-1]:.0f} s')
        self.evidence.forget_rows()
        outcomes = [
            [[outcome for _, outcome in model] for model in each]
            for each in found
        ]
        spreads = training_spreads(
            [
                (attack, models[2:])
                for attack, models in zip(self.chosen, outcomes, strict=True)
            ]
        )
        entries = []
        for attack, each, models, took in zip(
            self.chosen, found, outcomes, seconds, strict=True
        ):
            spread = spreads.get(attack.name, Spread())
            new = [
                compare(attack, setting, before, after, retrained, spread)
                for (setting, _), before, after, *retrained in zip(
                    each[0], *models, strict=True
                )
            ]
            entries += [entry | dict(seconds=took / len(new)) for entry in new]
            self.say(f'{attack.name}: {_verdict(new)}')
        return entries

    @property
    def files(self) -> tuple[Path, Path]:
        """Where the figures and their text are to be."""
        if self.candidate:
            return self.run.candidate_json, self.run.candidate_text
        return self.run.audit_json, self.run.audit_text

    def _announce(self, suspects: Sequence[Suspect]) -> None:
        """Say what will be done, and how long it may take."""
        evidence = self.evidence
        reads = {part for attack in self.chosen for part in attack.reads}
        passes = sum(len(getattr(evidence, part)) for part in reads)
        passes += sum(attack.cost(evidence) for attack in self.chosen)
        seconds = passes * len(suspects) * evidence.seconds_a_pass()
        self.say(
            f'step {self.step}: {len(evidence.gone)} forgotten classes, '
            f'{len(self.chosen)} attacks on {len(suspects)} models, '
            f'{len(suspects) - 2} of them retrained; about '
            f'{max(1, round(seconds / 60))} minutes of passes through them, '
            'if nothing is finished yet'
        )

    def _cached(
        self,
        name: str,
        settings: Mapping[str, Any],
        suspect: Suspect,
        measure: Callable[[], Findings],
    ) -> Findings:
        """Findings of an attack on a model, from its file if there is one."""
        identity = dict(
            name=name,
            settings=dict(settings),
            suspect=suspect.sha256,
            pretrained=self.record['checkpoint_sha256'],
            annotations=self.record['annotations_sha256'],
            classes=list(self.evidence.gone),
            seeds=list(self.seeds),
            max_images=self.max_images,
            version=__version__,
        )
        key = json.dumps(identity, sort_keys=True, default=str)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = Path(self.parts or self.run.audit / 'parts')
        path = folder / f'{name}-{digest}.npz'
        if not path.exists():
            _save_findings(measure(), path)
        return _load_findings(path)


def _verdict(entries: Sequence[dict]) -> str:
    """One word or two about an attack in all settings."""
    found = [entry['resisted'] for entry in entries]
    if not entries or not entries[0]['decides']:
        return 'no verdict'
    if not entries[0]['retrained']:
        return 'no control'
    if False in found:
        return f'not resisted in {found.count(False)} of {len(found)} settings'
    if True in found:
        return 'resisted'
    return 'does not tell the pre-trained model from a retrained one'


def _save_findings(findings: Findings, path: Path) -> None:
    """Write findings as arrays, without pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head, arrays = [], {}
    for number, (setting, outcome) in enumerate(findings):
        head.append(
            dict(
                setting=setting,
                details=outcome.details,
                classes=list(outcome.per_class),
            )
        )
        rows = [outcome.overall, *outcome.per_class.values()]
        arrays[f'rows_{number}'] = np.stack(rows)
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        np.savez_compressed(file, head=json.dumps(head), **arrays)


def _load_findings(path: Path) -> Findings:
    with np.load(path, allow_pickle=False) as file:
        head = json.loads(str(file['head']))
        rows = [file[f'rows_{number}'] for number in range(len(head))]
    return [
        (
            each['setting'],
            Outcome(
                values[0],
                dict(zip(each['classes'], values[1:], strict=True)),
                each['details'],
            ),
        )
        for each, values in zip(head, rows, strict=True)
    ]
