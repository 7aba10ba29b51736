from __future__ import annotations

import gc
import json
import os
import os.path as osp
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.registry import init_default_scope

from gslora_mm.models import load_stock_checkpoint
from gslora_mm.registry import METHODS, RUNNERS, class_of
from gslora_mm.utils import ConfigError, load_json, save_json
from gslora_mm.utils.atomic import remove_leftovers
from gslora_mm.utils.checkpoint import local_path
from gslora_mm.utils.distributed import model_of
from gslora_mm.training.hooks.step_checkpoint_hook import RESUME_FILE
from .identity import annotations_sha256
from .method_state import METHOD_FILE
from .dry_run import CheckedSequence, check_sequence
from .step import (
    CONFIG_FILE,
    MERGED_FILE,
    METRICS_FILE,
    RESULT_FILE,
    dump_config,
    run_step,
    without_prefix,
)
from .resolve import SEQUENCE_KEYS, step_config, stock_config

SEQUENCE_FILE = 'sequence.json'
PRETRAINED_DIR = 'pretrained'

#: What has to stay the same for a run to be resumed.
FINGERPRINT = SEQUENCE_KEYS + (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'randomness',
)


class ForgettingSequence:
    """Walk through the steps of a sequence, one Runner each.

    The steps are chained by files only - the merged checkpoint of one is
    the starting point of the next -, so that a sequence can be killed at
    any time and resumed anywhere, and no step costs more than the first.

    Args:
        cfg (Config): A config with a ``forgetting`` entry and a
            ``work_dir``.
        resume (bool): Whether to go on with what ``work_dir`` holds.
            Defaults to False.
    """

    def __init__(self, cfg: Config, resume: bool = False) -> None:
        self.cfg = cfg
        self.resume = resume
        self.work_dir = cfg.work_dir

    def run(self) -> dict:
        """Check everything, evaluate the pre-trained model, run all steps.

        Returns:
            dict: The report.

        Raises:
            ConfigError: If anything is wrong; no training has started then,
                and nothing in ``work_dir`` has changed.
        """
        from gslora_mm.reports import write_report

        init_default_scope(self.cfg.get('default_scope', 'mmdet'))
        self._fetch_pretrained()
        checked = check_sequence(self.cfg)
        self._claim_work_dir(checked)
        self._announce(checked)
        self._evaluate_pretrained(checked)
        for step in range(1, len(checked.plan) + 1):
            self._run_step(checked, step)
            if is_main_process():
                write_report(self.work_dir, pictures=False)
        report = {}
        if is_main_process():
            report = write_report(self.work_dir)
            self._say(f'report: {self._path("report.md")}')
        barrier()
        return report

    def _fetch_pretrained(self) -> None:
        """Let one process download what all will read."""
        pretrained = (self.cfg.get('forgetting') or {}).get('pretrained')
        if pretrained and is_main_process():
            local_path(pretrained)
        barrier()

    def _path(self, *names: str) -> str:
        return osp.join(self.work_dir, *names)

    def _step_dir(self, step: int) -> str:
        return self._path(f'step_{step:02d}')

    @staticmethod
    def _say(line: str) -> None:
        if is_main_process():
            print(line, flush=True)

    def _announce(self, checked: CheckedSequence) -> None:
        plan = checked.plan
        self._say(
            f'{len(plan)} steps, {len(plan.classes)} classes, '
            f'{get_world_size()} process(es); work dir {self.work_dir}'
        )
        for step, names in enumerate(plan.steps, 1):
            counts = ' and '.join(
                f'{number} {role}'
                for role, number in checked.images[step - 1].items()
                if number
            )
            new = plan.learn[step - 1] if plan.learn else ()
            self._say(
                f'  step {step}: forget {_brief(names)} '
                + f'and learn {_brief(new)} ' * bool(new)
                + f'({counts} images, {checked.max_iters[step - 1]} '
                'iterations)'
            )

    def _fingerprint(self) -> dict[str, Any]:
        kept = {key: self.cfg.get(key) for key in FINGERPRINT}
        return json.loads(
            json.dumps(kept, default=str),
            # As files of this package have NaN and infinity.
            parse_constant=lambda _: None,
        )

    def _claim_work_dir(self, checked: CheckedSequence) -> None:
        """Write ``sequence.json``, or compare with the one that is there."""
        path = self._path(SEQUENCE_FILE)
        sequence = dict(
            task=checked.task.name,
            method=class_of(self.cfg.method, METHODS).name,
            metric=checked.task.metric,
            model=self.cfg.model.type,
            allow_pickle=checked.forgetting['allow_pickle'],
            classes=list(checked.plan.classes),
            steps=[list(names) for names in checked.plan.steps],
            pretrained_path=str(checked.forgetting['pretrained']),
            checkpoint_sha256=checked.checkpoint_sha256,
            annotations_sha256=annotations_sha256(self.cfg),
            processes=get_world_size(),
            config=self._fingerprint(),
        )
        has_results = osp.exists(self._path(PRETRAINED_DIR, METRICS_FILE))
        if osp.exists(path) and has_results:
            # What a folder of an older version does not tell is not compared.
            now = sequence['annotations_sha256']
            found = {'annotations_sha256': now, **load_json(path)}
            difference = _first_difference(found, sequence)
            if difference:
                raise ConfigError(
                    f'work_dir = {self.work_dir!r} holds another sequence: '
                    f'{difference}; choose another --work-dir'
                )
            if not self.resume:
                raise ConfigError(
                    f'work_dir = {self.work_dir!r} already holds results of '
                    'this sequence; pass --resume to go on, or choose '
                    'another --work-dir'
                )
        barrier()
        if is_main_process():
            os.makedirs(self.work_dir, exist_ok=True)
            remove_leftovers(self.work_dir)
            save_json(sequence, path)
            dump_config(self.cfg, self._path(CONFIG_FILE))
        barrier()

    def _evaluate_pretrained(self, checked: CheckedSequence) -> None:
        """Score the model as it came, once, for the splits of all steps."""
        folder = self._path(PRETRAINED_DIR)
        path = osp.join(folder, METRICS_FILE)
        if osp.exists(path):
            return
        evaluator = self._evaluator(checked, checked.plan.all_splits())
        cfg = stock_config(self.cfg, folder, evaluator)
        os.makedirs(folder, exist_ok=True)
        if is_main_process():
            dump_config(cfg, osp.join(folder, CONFIG_FILE))
        runner = RUNNERS.build(cfg)
        load_stock_checkpoint(
            model_of(runner),
            checked.forgetting['pretrained'],
            checked.forgetting['allow_pickle'],
            'forgetting.pretrained',
        )
        start = time.perf_counter()
        metrics = without_prefix(runner.val())
        seconds = time.perf_counter() - start
        if is_main_process():
            save_json(dict(metrics=metrics, eval_seconds=seconds), path)
        runner.close()
        barrier()
        del runner
        gc.collect()

    def _evaluator(
        self, checked: CheckedSequence, splits: dict[str, list[str]]
    ) -> dict:
        return checked.task.evaluator(
            self.cfg._cfg_dict.to_dict()['val_evaluator'],
            splits,
            checked.forgetting['only_split_images'],
        )

    def _run_step(self, checked: CheckedSequence, step: int) -> None:
        folder = self._step_dir(step)
        result_file = osp.join(folder, RESULT_FILE)
        if osp.exists(result_file):
            result = load_json(result_file)
            if is_main_process():
                Path(folder, RESUME_FILE).unlink(missing_ok=True)
        else:
            splits = checked.plan.splits(step)
            cfg = step_config(
                self.cfg,
                checked.plan,
                step,
                forgetting=checked.forgetting,
                schedule=checked.schedule,
                task=checked.task_cfg,
                checkpoint=checked.forgetting['pretrained']
                if step == 1
                else osp.join(self._step_dir(step - 1), MERGED_FILE),
                evaluator=self._evaluator(
                    checked, {k: v for k, v in splits.items() if v}
                ),
                max_iters=checked.max_iters,
                work_dir=folder,
                before=self._path(PRETRAINED_DIR, METRICS_FILE),
                pretrained_sha256=checked.checkpoint_sha256,
                method_state=None
                if step == 1
                else osp.join(self._step_dir(step - 1), METHOD_FILE),
            )
            result = run_step(cfg, resume=self.resume)
        self._say(_summary(result, checked.task.metric))


def _brief(names: Sequence[str], most: int = 20) -> str:
    shown = ', '.join(names[:most])
    return shown + (f' and {len(names) - most} more') * (len(names) > most)


def _summary(result: dict, metric: str) -> str:
    def score(name: str) -> str:
        value = result.get(name)
        return '-' if value is None else f'{100 * value:.1f}'

    return (
        f'step {result["step"]}: {metric} forget {score("forget_before")} -> '
        f'{score("forget_score")}, retain {score("retain_before")} -> '
        f'{score("retain_score")}, old {score("old_score")}'
        + f', learned {score("learned_score")}' * ('learned' in result)
        + f'; H-Mean {score("h_mean")} (bound {score("h_mean_upper_bound")})'
    )


def _first_difference(found: Any, wanted: Any, where: str = '') -> str:
    """Where two JSON values differ first, in words; '' if nowhere."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(k for k in found if k not in wanted)]:
            difference = _first_difference(
                found.get(key),
                wanted.get(key),
                f'{where}.{key}'.removeprefix('.').removeprefix('config.'),
            )
            if difference:
                return difference
        return ''
    if found == wanted:
        return ''
    return f'{where} is {found!r} there and {wanted!r} here'
