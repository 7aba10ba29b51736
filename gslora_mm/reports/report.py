"""The report of a sequence, made from the files of its work dir."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from gslora_mm.evaluation.step_result import per_class_scores
from gslora_mm.registry import TASKS, registered
from gslora_mm.tasks import task_named
from gslora_mm.utils import atomic_write, save_json
from gslora_mm.work_dir import WorkDir
from .evidence import read_evidence
from .group_plot import plot_groups
from .html import render_html
from .markdown import render_markdown, report_context
from .score_plot import plot_scores

TIMING_FIELDS = (
    'prepare_seconds',
    'train_seconds',
    'eval_seconds',
    'peak_memory_mb',
)


def build_report(work_dir: str | os.PathLike) -> dict:
    """Collect the report of the steps finished so far.

    Nothing is computed here: the record of the run says what was asked for,
    the pre-trained model's metrics and the results of the steps what came
    out.

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
    run = WorkDir(work_dir)
    record, pretrained = run.read_record(), run.read_pretrained()
    report = dict(
        task=record['task'],
        method=record['method'],
        classes=record['classes'],
        requests=record['steps'],
        pretrained=dict(
            metric=record['metric'],
            per_class=per_class_scores(pretrained['metrics']),
            checkpoint=os.path.basename(record['pretrained_path']),
            checkpoint_sha256=record['checkpoint_sha256'],
            eval_seconds=pretrained.get('eval_seconds'),
        ),
        steps=run.read_results(),
    )
    for key in ('model', 'annotations_sha256', 'validation_images'):
        if key in record:
            report[key] = record[key]
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


def name_of_score(metric: str) -> str:
    """Short name of a headline score, e.g. 'AP' of 'mAP'.

    Args:
        metric (str): Its name in reports, as the task has it. If there is no
            such task, it has not been imported, or has no short name, this
            name is kept.
    """
    for task in registered(TASKS).values():
        if getattr(task, 'metric', None) == metric:
            return getattr(task, 'score_name', metric)
    return metric


def import_modules_of(run: WorkDir) -> None:
    """Import what the config of a run imports, such as a user's own task.

    What is not there any more is told in the log: of what it has registered,
    only names of scores and pictures are missing in a report.
    """
    try:
        Config.fromfile(run.pretrained.config)
    except FileNotFoundError:
        pass
    except Exception as error:  # nor for what a config executes
        print_log(
            f'Modules of the config are missing: {error}',
            logger='current',
            level=logging.WARNING,
        )


def write_report(work_dir: str | os.PathLike, pictures: bool = True) -> dict:
    """Write the report of a sequence and its figures.

    Every file is written atomically, ``report.md`` and ``report.html`` last,
    so that they never show a figure that is not there. The same run gives
    the same ``report.json`` and figures, bit for bit, but for the times and
    memory of :func:`comparable`, and so it is with ``report.md`` down to its
    section on these. Where ``report.html`` cannot be made, the log says so.

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
    run = WorkDir(work_dir)
    report = build_report(work_dir)
    import_modules_of(run)
    save_json(report, run.report)
    score = name_of_score(report['pretrained']['metric'])
    note, drawn = '', []
    if report['steps']:
        plot_scores(report['steps'], score, run.figure('scores'))
        drawn.append('scores')
        if plot_groups(report['steps'], run.figure('groups')):
            drawn.append('groups')
        if pictures and _draw_pictures(run, report):
            drawn.append('pictures')
            note = task_named(report['task']).picture_note
    figures = {
        name: run.figure(name).relative_to(run.path).as_posix()
        for name in drawn
    }
    evidence = _or_warn('evidence', read_evidence, run, report, score)
    context = report_context(report, score, figures, note, evidence)
    with atomic_write(run.report_text, 'w') as file:
        file.write(render_markdown(context))
    if evidence:
        _or_warn('report.html', _write_page, run, context)
    return report


def _write_page(run: WorkDir, context: Mapping) -> None:
    text = render_html(context, run.path)
    with atomic_write(run.report_page, 'w') as file:
        file.write(text)


def _or_warn(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns; a warning and None where it fails.

    A run has taken long, and its report must not cost it.
    """
    try:
        return function(*args)
    except Exception as error:
        print_log(
            f'The report is without {what}: {type(error).__name__}: {error}',
            logger='current',
            level=logging.WARNING,
        )


def _draw_pictures(run: WorkDir, report: dict) -> bool:
    """Pictures, or a warning if what they are made from is gone."""
    from .pictures import draw_pictures  # torch and a model's library

    try:
        return draw_pictures(run.path, report, run.figure('pictures'))
    except Exception as error:  # a finished run is not to fail for them
        print_log(
            f'The report has no pictures: {type(error).__name__}: {error}',
            logger='current',
            level=logging.WARNING,
        )
        return False
