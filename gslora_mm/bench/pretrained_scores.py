"""Scores of the pre-trained model, which all runs of a suite start with."""

from collections.abc import Iterable

from mmengine.config import Config

from gslora_mm.sequence.identity import scores_identity
from gslora_mm.sequence.step import dump_config
from gslora_mm.utils import ConfigError, load_json, save_json
from gslora_mm.work_dir import WorkDir


def share_pretrained_scores(
    work_dir: WorkDir,
    identity: dict,
    others: Iterable[tuple[WorkDir, dict]],
) -> bool:
    """Spare a run the evaluation of the model that it starts from.

    Runs side by side start from the same model and are scored on the same
    images. What one of them has found, the others need not find again.

    Args:
        work_dir (WorkDir): Of a run that has not begun.
        identity (dict): Of this run, see
            :func:`~gslora_mm.sequence.identity.run_identity`.
        others (Iterable[tuple[WorkDir, dict]]): Work dir and identity of
            other runs, as they were when they were started.

    Returns:
        bool: Whether another run with the same had scores to share.
    """
    folder = work_dir.pretrained
    if work_dir.record.exists():
        return False  # It has begun, and finds its own way.
    folder.metrics.unlink(missing_ok=True)  # whatever they were of
    if identity['checkpoint_sha256'] is None:
        return False
    wanted = scores_identity(identity)
    for other, other_identity in others:
        if scores_identity(other_identity) != wanted:
            continue
        try:
            scores = load_json(other.pretrained.metrics)
            # The report's pictures are made with it.
            evaluation = Config.fromfile(other.pretrained.config)
        except (FileNotFoundError, ConfigError):
            continue  # not yet there, or half written
        folder.path.mkdir(parents=True, exist_ok=True)
        evaluation.work_dir = str(folder.path)
        dump_config(evaluation, folder.config)
        save_json(scores, folder.metrics)
        return True
    return False
