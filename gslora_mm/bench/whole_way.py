"""What the way from a config to the report of a sequence takes, by part."""

import copy
import tempfile
import time
from collections.abc import Callable

from mmengine.config import Config

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.utils import ConfigError
from gslora_mm.utils.tables import markdown_table
from .stopwatch import ITERATION, Stopwatch

#: Of a whole run; ``other`` is to build models, read data sets, save files.
WHOLE = ('start', 'checks', *ITERATION, 'evaluation', 'report', 'other')


def time_sequence(
    cfg: Config,
    steps: int,
    iterations: int,
    start: float,
    clock: Callable[[], float] | None = None,
) -> dict:
    """Run the first steps of a sequence, shortened, in a folder that goes.

    Args:
        cfg (Config): The sequence.
        steps (int): How many steps.
        iterations (int): How many iterations a step.
        start (float): Seconds that the imports took and reading the config.
        clock (Callable[[], float], optional): See :class:`Stopwatch`.

    Returns:
        dict: ``seconds`` by part, ``iterations`` in all and ``steps``; or
        why there are none, ``reason``.
    """
    cfg = copy.deepcopy(cfg)
    watch = Stopwatch(clock)
    clock = clock or time.perf_counter
    try:
        cfg.forgetting.steps = cfg.forgetting.steps[:steps]
        cfg.schedule.max_iters, cfg.schedule.max_epochs = iterations, None
        with tempfile.TemporaryDirectory() as folder:
            cfg.work_dir = folder
            begin = clock()
            with watch.watching_sequence(), watch.part('other'):
                report = ForgettingSequence(cfg).run()
            whole = clock() - begin
    except ConfigError as error:
        return dict(reason=str(error))
    done = report['steps']
    return dict(
        seconds={'start': start, **watch.seconds},
        total=start + whole,
        iterations=sum(step['iterations'] for step in done),
        steps=len(done),
    )


def whole_table(run: dict) -> str:
    """Markdown table of :func:`time_sequence`; a dash if there is nothing."""
    seconds, total = run.get('seconds', {}), run.get('total')
    rows = []
    for part in WHOLE:
        if part not in seconds:
            rows.append([part, '-', '-', '-'])
            continue
        each = f'{1000 * seconds[part] / run["iterations"]:.1f}'
        rows.append(
            [
                part,
                f'{seconds[part]:.2f}',
                f'{100 * seconds[part] / total:.1f} %',
                each if part in ITERATION else '-',
            ]
        )
    rows.append(['whole', f'{total:.2f}' if total else '-', '', ''])
    header = ['part', 'seconds', 'share', 'ms an iteration']
    return markdown_table(header, rows)


def iteration_table(median: dict[str, dict[str, float]]) -> str:
    """Markdown table of the parts of an iteration.

    Args:
        median (dict[str, dict[str, float]]): Seconds by variant and part;
            ``whole`` is one of the parts.

    Returns:
        str: A column for each variant; a dash for what it has no part of.
    """
    rows = [
        [part, *(_seconds(found.get(part)) for found in median.values())]
        for part in (*ITERATION, 'other', 'whole')
    ]
    return markdown_table(['seconds', *median], rows)


def _seconds(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'
