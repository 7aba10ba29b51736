"""The report of a sequence, made from the files of its work dir."""

import logging
import os
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from gslora_mm.evaluation.step_result import per_class_scores
from gslora_mm.utils import ConfigError, atomic_write, load_json, save_json
from .group_plot import plot_groups
from .markdown import render_markdown
from .score_plot import plot_scores

TIMING_FIELDS = (
    'prepare_seconds',
    'train_seconds',
    'eval_seconds',
    'peak_memory_mb',
)
SCORE_NAMES = {'mAP': 'AP', 'top1': 'Acc'}


def build_report(work_dir: str | os.PathLike) -> dict:
    """Collect the report of the steps finished so far.

    Nothing is computed here: ``sequence.json`` says what was asked for,
    ``pretrained/metrics.json`` and ``step_XX/result.json`` what came out.

    Args:
        work_dir (str | os.PathLike): Work dir of a sequence, of any task.

    Returns:
        dict: What ``report.json`` holds: ``task``, ``method``, ``classes``,
        ``requests`` (the classes of all steps, finished or not),
        ``pretrained`` and ``steps``.

    Raises:
        ConfigError: If the folder is not the work dir of a sequence, or a
            step's result is not that of the sequence's step.
    """
    work_dir = Path(work_dir)
    sequence = _load(work_dir / 'sequence.json')
    pretrained = _load(work_dir / 'pretrained' / 'metrics.json')
    steps: list[dict] = []
    for number, request in enumerate(sequence['steps'], start=1):
        path = work_dir / f'step_{number:02d}' / 'result.json'
        if not path.exists():
            break
        result = load_json(path)
        if result['step'] != number or set(result['forget']) != set(request):
            raise ConfigError(
                f'{path}: holds step {result["step"]}, which forgets '
                f'{result["forget"]}; step {number} of sequence.json forgets '
                f'{request}'
            )
        steps.append(result)
    report = dict(
        task=sequence['task'],
        method=sequence['method'],
        classes=sequence['classes'],
        requests=sequence['steps'],
        pretrained=dict(
            metric=sequence['metric'],
            per_class=per_class_scores(pretrained['metrics']),
            checkpoint=os.path.basename(sequence['pretrained_path']),
            checkpoint_sha256=sequence['checkpoint_sha256'],
            eval_seconds=pretrained.get('eval_seconds'),
        ),
        steps=steps,
    )
    for key in ('model', 'annotations_sha256'):
        if key in sequence:
            report[key] = sequence[key]
    return report


def comparable(report: Any) -> Any:
    """What two runs have to share to have the same report.

    This is the definition of "the same report": equal after this function.
    It drops what a machine's load decides - ``prepare_seconds``,
    ``train_seconds``, ``eval_seconds`` and ``peak_memory_mb`` - and nothing
    else.

    Args:
        report (Any): A report, or a part of it.

    Returns:
        Any: A copy without these fields, at any depth.
    """
    if isinstance(report, dict):
        return {
            key: comparable(value)
            for key, value in report.items()
            if key not in TIMING_FIELDS
        }
    if isinstance(report, list):
        return [comparable(value) for value in report]
    return report


def write_report(work_dir: str | os.PathLike, pictures: bool = True) -> dict:
    """Write ``report.json``, ``report.md`` and the figures of ``report/``.

    Every file is written atomically, ``report.md`` last, so that it never
    shows a figure that is not there. The same run gives the same files,
    bit for bit, but for the times and memory of :func:`comparable`.

    Args:
        work_dir (str | os.PathLike): Work dir of a sequence.
        pictures (bool): Draw before-and-after pictures too, which runs the
            models on a few images. If their files are gone (moved data, a
            deleted checkpoint) the report says so in the log and does
            without. Defaults to True.

    Returns:
        dict: The report, see :func:`build_report`.

    Raises:
        ConfigError: If the folder is not the work dir of a sequence.
        SaveError: If a file cannot be written.
    """
    work_dir = Path(work_dir)
    report = build_report(work_dir)
    save_json(report, work_dir / 'report.json')
    metric = report['pretrained']['metric']
    score_name = SCORE_NAMES.get(metric, metric)
    figures: dict[str, str] = {}
    if report['steps']:
        plot_scores(
            report['steps'], score_name, work_dir / 'report' / 'scores.png'
        )
        figures['scores'] = 'report/scores.png'
        if plot_groups(report['steps'], work_dir / 'report' / 'groups.png'):
            figures['groups'] = 'report/groups.png'
        if pictures:
            path = work_dir / 'report' / 'pictures.png'
            if _draw_pictures(work_dir, report, path):
                figures['pictures'] = 'report/pictures.png'
    with atomic_write(work_dir / 'report.md', 'w') as file:
        file.write(render_markdown(report, score_name, figures))
    return report


def _load(path: Path) -> Any:
    """A JSON file that every sequence has."""
    try:
        return load_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f'work_dir: {str(path.parent)!r} has no {path.name}; valid is '
            'the work dir of a sequence whose pre-trained model has been '
            'evaluated'
        ) from None


def _draw_pictures(work_dir: Path, report: dict, path: Path) -> bool:
    """Pictures, or a warning if what they are made from is gone."""
    # Each with the library of its task, which the other one does not need.
    if report['task'] == 'detection':
        from .pictures import draw_pictures
    elif report['task'] == 'classification':
        from .class_pictures import draw_pictures
    else:
        return False
    try:
        return draw_pictures(work_dir, report, path)
    except (ConfigError, FileNotFoundError) as error:
        print_log(
            f'The report has no pictures: {error}',
            logger='current',
            level=logging.WARNING,
        )
        return False
