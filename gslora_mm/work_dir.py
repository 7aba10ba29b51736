"""The files of a run: the only place that knows their names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from gslora_mm.utils import ConfigError, load_json, save_json

#: Files of an ordinary training run of MMEngine.
_OF_TRAININGS = ('last_checkpoint', 'epoch_*.pth', 'iter_*.pth', 'best_*.pth')


def own_folder(found: str | os.PathLike, name: str) -> str:
    """A folder for a sequence that is not that of a training.

    Args:
        found (str | os.PathLike): The folder that the config names.
        name (str): Name of the config.

    Returns:
        str: ``found``; or, where an ordinary training run has left its files
        there, ``work_dirs/NAME``, or else ``work_dirs/NAME_forgetting``.
    """
    for folder in (found, f'work_dirs/{name}'):
        path = Path(folder)
        if not any(any(path.glob(pattern)) for pattern in _OF_TRAININGS):
            return str(folder)
    return f'work_dirs/{name}_forgetting'


class EvaluationDir:
    """Folder of the evaluation of one model.

    Args:
        path (str | os.PathLike): The folder; it need not exist.

    Attributes:
        path (Path): The folder.
        config (Path): The MMEngine config that made the rest.
        metrics (Path): All figures of the evaluation, flat, under
            ``metrics``.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.config = self.path / 'config.py'
        self.metrics = self.path / 'metrics.json'

    @property
    def started(self) -> datetime | None:
        """When it was begun last, local time, as its log folder is named.

        Unlike the dates of files, names outlive copies.
        """
        logs = sorted(self.path.glob(8 * '[0-9]' + '_' + 6 * '[0-9]'))
        if not logs:
            return None
        return datetime.strptime(logs[-1].name, '%Y%m%d_%H%M%S')


class StepDir(EvaluationDir):
    """Work dir of one step; it is finished once :attr:`result` is there.

    Args:
        path (str | os.PathLike): The folder; it need not exist.

    Attributes:
        result (Path): The step's entry in the report, written last.
        merged (Path): The finished model, a stock checkpoint.
        adapter (Path): The adapter as it was merged, where there is one.
        method_state (Path): What the method carries on, if anything.
        resume (Path): State of the unfinished step.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(path)
        self.result = self.path / 'result.json'
        self.merged = self.path / 'merged.pth'
        self.adapter = self.path / 'adapter.safetensors'
        self.method_state = self.path / 'method.safetensors'
        self.resume = self.path / 'resume.pth'

    @property
    def is_finished(self) -> bool:
        """Whether the step has ended."""
        return self.result.exists()


class WorkDir:
    """Work dir of a sequence.

    Args:
        path (str | os.PathLike): The folder; it need not exist.

    Attributes:
        path (Path): The folder.
        record (Path): What was asked for: steps, classes, identity of run.
        config (Path): The sequence config, resolved.
        request (Path): The sequence config as it was written for a request.
        pretrained (EvaluationDir): First evaluation, before any forgetting.
        report (Path): The report for machines.
        report_text (Path): The report as Markdown.
        report_page (Path): The report as one HTML file, figures included.
        figures (Path): Folder of the report's figures.
        audit (Path): Folder of an audit.
        audit_json (Path): Its figures, for machines.
        audit_text (Path): The same as Markdown.
        candidate_json (Path): What they found in another model.
        candidate_text (Path): The same as Markdown.
        lock (Path): Locked by the process that writes here.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.record = self.path / 'sequence.json'
        self.config = self.path / 'config.py'
        self.request = self.path / 'forget.py'
        self.pretrained = EvaluationDir(self.path / 'pretrained')
        self.report = self.path / 'report.json'
        self.report_text = self.path / 'report.md'
        self.report_page = self.path / 'report.html'
        self.figures = self.path / 'report'
        self.audit = self.path / 'audit'
        self.audit_json = self.audit / 'audit.json'
        self.audit_text = self.audit / 'audit.md'
        self.candidate_json = self.audit / 'candidate.json'
        self.candidate_text = self.audit / 'candidate.md'
        self.lock = self.path / '.lock'

    def step(self, number: int) -> StepDir:
        """Work dir of a step, from 1 on."""
        return StepDir(self.path / f'step_{number:02d}')

    def figure(self, name: str) -> Path:
        """A figure of the report, such as ``'scores'``."""
        return self.figures / f'{name}.png'

    def models(self, steps: Iterable[int]) -> dict[str, tuple[str, bool]]:
        """Checkpoints of the pre-trained model and of those after steps.

        Args:
            steps (Iterable[int]): Numbers of the steps.

        Returns:
            dict[str, tuple[str, bool]]: By title, such as ``'after step 1'``,
            path or URL and whether it may be unpickled without restriction.

        Raises:
            ConfigError: If this is not the work dir of a sequence.
        """
        record = self.read_record()
        pretrained = record['pretrained_path']
        return {
            'pre-trained': (pretrained, record.get('allow_pickle', False)),
            **{
                f'after step {step}': (str(self.step(step).merged), False)
                for step in steps
            },
        }

    @property
    def has_results(self) -> bool:
        """Whether a sequence has computed anything there that took long.

        A suite may have put scores of the pre-trained model there before.
        """
        return self.record.exists() and self.pretrained.metrics.exists()

    def read_record(self) -> dict:
        """What was asked for.

        Raises:
            ConfigError: If this is not the work dir of a sequence.
        """
        return self._read(self.record, 'valid is the work dir of a sequence')

    def read_pretrained(self) -> dict:
        """``metrics`` of the pre-trained model and ``eval_seconds``.

        Raises:
            ConfigError: If it has not been evaluated yet.
        """
        return self._read(
            self.pretrained.metrics,
            'valid is the work dir of a sequence whose pre-trained model has '
            'been evaluated',
        )

    def read_report(self) -> dict:
        """The report.

        Raises:
            ConfigError: If there is none.
        """
        return self._read(
            self.report,
            'valid is the work dir of a sequence with at least one finished '
            'step',
        )

    def read_results(self, gaps: bool = False) -> list[dict]:
        """Entries of the finished steps, up to the first unfinished one.

        Args:
            gaps (bool): Read those behind an unfinished step, too. Defaults
                to False.

        Raises:
            ConfigError: If this is not the work dir of a sequence, or a
                step's result is not that of the sequence's step.
        """
        results = []
        for number, request in enumerate(self.read_record()['steps'], 1):
            path = self.step(number).result
            if not path.exists():
                if gaps:
                    continue
                break
            result = load_json(path)
            if result['step'] != number or set(result['forget']) != set(
                request
            ):
                raise ConfigError(
                    f'{path}: holds step {result["step"]}, which forgets '
                    f'{result["forget"]}; step {number} of '
                    f'{self.record.name} forgets {request}'
                )
            results.append(result)
        return results

    @property
    def is_finished(self) -> bool:
        """Whether all steps are in the report; a half-written one is not."""
        try:
            report = load_json(self.report)
            return len(report['steps']) == len(report['requests'])
        except (FileNotFoundError, ConfigError, KeyError, TypeError):
            return False

    def write_record(self, record: dict) -> None:
        """Write what is asked for."""
        save_json(record, self.record)

    def _read(self, path: Path, valid: str) -> Any:
        try:
            return load_json(path)
        except FileNotFoundError:
            name = path.relative_to(self.path)
            raise ConfigError(
                'work_dir', str(self.path), f'has no {name}; {valid}'
            ) from None
