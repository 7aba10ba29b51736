"""The walk through the steps of a sequence."""

import contextlib
import gc
import time
from collections.abc import Iterator

from filelock import Timeout
from mmengine.config import Config
from mmengine.dist import (
    barrier,
    broadcast_object_list,
    is_main_process,
)

from gslora_mm.evaluation.step_result import per_class_scores
from gslora_mm.models import load_stock_checkpoint
from gslora_mm.registry import RUNNERS
from gslora_mm.utils import ConfigError, load_json, save_json
from gslora_mm.utils.atomic import remove_leftovers
from gslora_mm.utils.checkpoint import local_path
from gslora_mm.utils.distributed import model_of
from gslora_mm.utils.locks import lock_file
from gslora_mm.utils.sharing import read_once
from gslora_mm.utils.text import percent, shortened
from gslora_mm.work_dir import WorkDir
from .dry_run import check_sequence
from .identity import first_difference, run_identity
from .overview import overview
from .resolve import ResolvedSequence
from .step import dump_config, run_step, without_prefix
from .stock_config import check_work_dir


class ForgettingSequence:
    """Walk through the steps of a sequence, one Runner each.

    The steps are chained by files only - the merged checkpoint of one is
    the starting point of the next -, so that a sequence can be killed at
    any time and resumed anywhere, and no step costs more than the first.
    While it runs, no other process can run a sequence in its work dir.

    Args:
        cfg (Config): A config with a ``forgetting`` entry and a
            ``work_dir``.
        resume (bool): Whether to go on with what ``work_dir`` holds.
            Defaults to False.
        estimates (bool): Whether to measure, and say first, how long it will
            take. Defaults to False.
    """

    def __init__(
        self, cfg: Config, resume: bool = False, estimates: bool = False
    ) -> None:
        self.cfg = cfg
        self.resume = resume
        self.estimates = estimates
        check_work_dir(cfg)
        self.work_dir = WorkDir(cfg.work_dir)

    def check(self) -> ResolvedSequence:
        """Check everything and say what would be done, but do nothing.

        Raises:
            ConfigError: If anything is wrong.
        """
        self._fetch_pretrained()
        sequence = check_sequence(self.cfg, self.estimates)
        self._announce(sequence)
        return sequence

    def run(self) -> dict:
        """Check everything, evaluate the pre-trained model, run all steps.

        Returns:
            dict: The report; {} on all processes but the first.

        Raises:
            ConfigError: If anything is wrong; no training has started then,
                and nothing in ``work_dir`` has changed.
        """
        from gslora_mm.reports import write_report  # imports Matplotlib

        self._fetch_pretrained()
        with self._locked(), read_once():
            sequence = check_sequence(self.cfg, self.estimates)
            self._claim_work_dir(sequence)
            self._announce(sequence)
            self._evaluate_pretrained(sequence)
            self._warn_of_nothing(sequence)
            for step in range(1, len(sequence.plan) + 1):
                self._run_step(sequence, step)
                if is_main_process():
                    write_report(self.work_dir.path, pictures=False)
            report = {}
            if is_main_process():
                report = write_report(self.work_dir.path)
                self._say(f'report: {self.work_dir.report_text}')
            barrier()
        return report

    def _fetch_pretrained(self) -> None:
        """Let one process download what all will read."""
        pretrained = (self.cfg.get('forgetting') or {}).get('pretrained')
        if pretrained and is_main_process():
            local_path(pretrained)
        barrier()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out of the work dir.

        A folder that is made for this and stays empty is removed. On file
        systems without locks there is none.

        Raises:
            ConfigError: On all processes, if a sequence runs there already.
        """
        folder = self.work_dir.path
        lock: contextlib.AbstractContextManager = contextlib.nullcontext()
        is_taken, is_new = [False], False
        if is_main_process():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(parents=True)
                is_new = True
            try:
                lock = lock_file(self.work_dir.lock)
            except Timeout:
                is_taken = [True]
        broadcast_object_list(is_taken)
        if is_taken[0]:
            raise ConfigError(
                'work_dir',
                str(folder),
                'another process runs a sequence there; wait for its end, or '
                'choose another one',
            )
        with lock:
            try:
                yield
            finally:
                if is_new and {*folder.iterdir()} <= {self.work_dir.lock}:
                    self.work_dir.lock.unlink(missing_ok=True)
                    folder.rmdir()

    @staticmethod
    def _say(line: str) -> None:
        if is_main_process():
            print(line, flush=True)

    def _announce(self, sequence: ResolvedSequence) -> None:
        for line in overview(sequence):
            self._say(line)

    def _claim_work_dir(self, sequence: ResolvedSequence) -> None:
        """Write down what is asked for, unless there is something else."""
        identity = run_identity(
            self.cfg, sequence.entries, sequence.checkpoint_sha256
        )
        if self.work_dir.has_results:
            self._check_same(identity)
        barrier()
        if is_main_process():
            remove_leftovers(self.work_dir.path)
            forgetting = sequence.entries.forgetting
            self.work_dir.write_record(
                dict(
                    task=sequence.task.name,
                    method=sequence.entries.method.cls.name,
                    metric=sequence.task.metric,
                    model=self.cfg.model.type,
                    allow_pickle=forgetting.allow_pickle,
                    classes=list(sequence.plan.classes),
                    steps=[list(names) for names in sequence.plan.steps],
                    pretrained_path=str(forgetting.pretrained),
                    checkpoint_sha256=sequence.checkpoint_sha256,
                    validation_images=[
                        sequence.num_validation,
                        sequence.all_validation,
                    ],
                    annotations_sha256=identity['annotations_sha256'],
                    identity=identity,
                )
            )
            dump_config(self.cfg, self.work_dir.config)
        barrier()

    def _check_same(self, identity: dict) -> None:
        """Refuse results of another sequence, or any if not resuming."""
        record = self.work_dir.read_record()
        if 'identity' not in record:
            reason = (
                'it holds results of an older version of this package, which '
                'cannot be resumed; choose another one'
            )
        elif difference := first_difference(record['identity'], identity):
            reason = (
                f'it holds another sequence: {difference}; choose another one'
            )
        elif not self.resume:
            reason = (
                'it already holds results of this sequence; resume it, or '
                'choose another one'
            )
        else:
            return
        raise ConfigError('work_dir', str(self.work_dir.path), reason)

    def _evaluate_pretrained(self, sequence: ResolvedSequence) -> None:
        """Score the model as it came, once, for the splits of all steps."""
        files = self.work_dir.pretrained
        if files.metrics.exists():
            return
        cfg = sequence.pretrained_config()
        if is_main_process():
            dump_config(cfg, files.config)
        runner = RUNNERS.build(cfg)
        forgetting = sequence.entries.forgetting
        load_stock_checkpoint(
            model_of(runner),
            forgetting.pretrained,
            forgetting.allow_pickle,
            'forgetting.pretrained',
        )
        start = time.perf_counter()
        metrics = without_prefix(runner.val())
        seconds = time.perf_counter() - start
        if is_main_process():
            save_json(
                dict(metrics=metrics, eval_seconds=seconds), files.metrics
            )
        runner.close()
        barrier()
        del runner
        gc.collect()

    def _warn_of_nothing(self, sequence: ResolvedSequence) -> None:
        """Say first of which classes the model has nothing to forget."""
        metrics = load_json(self.work_dir.pretrained.metrics)['metrics']
        scores = per_class_scores(metrics)
        plan, metric = sequence.plan, sequence.task.metric
        learned = {name for names in plan.learn for name in names}
        for step, names in enumerate(plan.steps, 1):
            scored = [
                name
                for name in names
                if name not in learned and scores.get(name) is not None
            ]
            nothing = [n for n in scored if percent(scores[n]) == '0.0']
            if nothing:
                self._say(
                    f'step {step}: {metric} of {shortened(nothing)} is 0.0 '
                    'before anything is forgotten, so there is nothing to '
                    'forget'
                    + ', and no H-Mean above 0'
                    * (nothing == scored)
                    + '. If there should be: is the checkpoint that of the '
                    'model, and are the classes in the order of its labels?'
                )

    def _run_step(self, sequence: ResolvedSequence, step: int) -> None:
        files = self.work_dir.step(step)
        if files.is_finished:
            result = load_json(files.result)
            if is_main_process():
                files.resume.unlink(missing_ok=True)
        else:
            result = run_step(sequence.step_config(step), resume=self.resume)
        self._say(_summary(result, sequence.task.metric))


def _summary(result: dict, metric: str) -> str:
    """One line with the scores of a step."""

    def score(name: str) -> str:
        return percent(result.get(name))

    return (
        f'step {result["step"]}: {metric} forget {score("forget_before")} -> '
        f'{score("forget_score")}, retain {score("retain_before")} -> '
        f'{score("retain_score")}, old {score("old_score")}'
        + f', learned {score("learned_score")}' * ('learned' in result)
        + f'; H-Mean {score("h_mean")} (bound {score("h_mean_upper_bound")})'
    )
