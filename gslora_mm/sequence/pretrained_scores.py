"""Scores of the pre-trained model, which all runs of a suite start with."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.utils import ConfigError, load_json, save_json
from .identity import annotations_sha256
from .run import PRETRAINED_DIR, SEQUENCE_FILE
from .step import CONFIG_FILE, METRICS_FILE, dump_config

VAL = 'val_dataloader'
#: Entries of a sequence config that these scores do not depend on.
_OF_THE_STEPS = ('adapter', 'method', 'randomness', 'schedule', 'work_dir')
#: The same of its entry ``forgetting``.
_OF_THE_REPLAY = (
    'forget_share',
    'other_annotations',
    'retain_share',
    'sampling',
    'seed',
    'shots',
)


def share_pretrained_scores(
    cfg: Config, sha256: str, others: Iterable[Config]
) -> bool:
    """Spare a run the evaluation of the model that it starts from.

    Methods side by side start from the same model and are scored on the same
    images. What one of them has found, the others need not find again.

    Args:
        cfg (Config): Of a run that has not begun.
        sha256 (str): Hash of its pre-trained checkpoint, as it is now.
        others (Iterable[Config]): Of other runs, as this one.

    Returns:
        bool: Whether another run with the same had scores to share.
    """
    folder = Path(cfg.work_dir, PRETRAINED_DIR)
    if Path(cfg.work_dir, SEQUENCE_FILE).exists():
        return False  # It has begun, and finds its own way.
    (folder / METRICS_FILE).unlink(missing_ok=True)  # whatever they were of
    wanted = _scored(cfg.to_dict())
    images = annotations_sha256(cfg).get(VAL)
    for other in others:
        if _scored(other.to_dict()) != wanted:
            continue
        try:
            sequence = load_json(Path(other.work_dir, SEQUENCE_FILE))
            found = Path(other.work_dir, PRETRAINED_DIR)
            scores = load_json(found / METRICS_FILE)
            # The report's pictures are made with it.
            evaluation = Config.fromfile(found / CONFIG_FILE)
        except (FileNotFoundError, ConfigError):
            continue  # not yet there, or half written
        scored_on = sequence.get('annotations_sha256', {}).get(VAL)
        if sequence.get('checkpoint_sha256') == sha256 and scored_on == images:
            folder.mkdir(parents=True, exist_ok=True)
            evaluation.work_dir = str(folder)
            dump_config(evaluation, folder / CONFIG_FILE)
            save_json(scores, folder / METRICS_FILE)
            return True
    return False


def _scored(cfg: dict[str, Any]) -> str:
    """All that the scores depend on, as text that can be compared."""
    kept = {k: v for k, v in cfg.items() if k not in _OF_THE_STEPS}
    forgetting = dict(kept['forgetting'])
    for name in _OF_THE_REPLAY:
        forgetting.pop(name, None)
    kept['forgetting'] = forgetting
    if forgetting.get('missing') == 'rest':
        # What is missing then depends on what the method looks at.
        kept['method'] = cfg['method'].get('type')
    return json.dumps(kept, sort_keys=True, default=str)
