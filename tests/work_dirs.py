"""Work dirs of finished sequences, as the engine leaves them, in a moment."""

import random
from collections.abc import Sequence
from pathlib import Path

from gslora_mm.evaluation import step_result
from gslora_mm.utils import save_json

CLASSES = ['person', 'car', 'dog', 'cat', 'tie', 'zebra']


def make_work_dir(
    root: Path,
    requests: Sequence[Sequence[str]] = (('dog', 'tie'), ('car',)),
    finished: int | None = None,
    classes: Sequence[str] = CLASSES,
    num_groups: int = 6,
    metric: str = 'mAP',
    task: str = 'detection',
    seed: int = 0,
) -> Path:
    """Write the files that a report is made from, with random figures.

    Args:
        root: The work dir.
        requests: Forgotten classes, by step.
        finished: How many steps have a result. Defaults to all.
        classes: All classes.
        num_groups: Groups of the adapter; every third is exactly zero.
        metric: Name of the score.
        task: Name of the task.
        seed: Seed of the figures.
    """
    rng = random.Random(seed)
    before = {f'per_class/{name}': rng.uniform(0.5, 0.9) for name in classes}
    save_json(
        dict(
            task=task,
            method='gs_lora',
            classes=list(classes),
            metric=metric,
            steps=[list(request) for request in requests],
            pretrained_path=str(root / 'pretrained.pth'),
            checkpoint_sha256='0123abcd' * 8,
        ),
        root / 'sequence.json',
    )
    save_json(
        dict(metrics=before, eval_seconds=1.25),
        root / 'pretrained' / 'metrics.json',
    )
    old: list[str] = []
    for number, request in enumerate(requests[:finished], start=1):
        gone = {*old, *request}
        splits = dict(
            forget=list(request),
            retain=[name for name in classes if name not in gone],
            old=list(old),
        )
        now = {
            key: rng.uniform(0, 0.02)
            if key.removeprefix('per_class/') in gone
            else value - rng.uniform(0, 0.03)
            for key, value in before.items()
        }
        save_json(
            step_result(number, splits, now, before, metric)
            | _facts(number, num_groups, rng),
            root / f'step_{number:02d}' / 'result.json',
        )
        old += request
    return root


def _facts(number: int, num_groups: int, rng: random.Random) -> dict:
    """What the engine adds to a step's scores."""
    groups = {}
    for index in range(num_groups):
        norm = 0.0 if (index + number) % 3 == 0 else rng.uniform(0.01, 6)
        name = f'{"en" if 2 * index < num_groups else "de"}coder.layers'
        groups[f'{name}.{index % ((num_groups + 1) // 2)}.ffn'] = dict(
            norm=norm, update_norm=norm / 20, active=norm != 0
        )
    return dict(
        groups=groups,
        trainable_parameters=24576,
        total_parameters=1_124_576,
        trainable_share=24576 / 1_124_576,
        iterations=300,
        prepare_seconds=rng.uniform(0, 2),
        train_seconds=rng.uniform(60, 80),
        eval_seconds=4.5,
        peak_memory_mb=812,
    )
