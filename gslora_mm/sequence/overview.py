"""What a sequence is going to do, and what that will cost, in words."""

import time

import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.model import BaseModel

from gslora_mm.utils.text import duration, shortened
from .resolve import ResolvedSequence

#: An image of a batch takes so many times as long as one that is scored: it
#: goes forward and back, and most methods ask a teacher. Measured on CPUs.
TRAINING_FACTOR = 3.0


def overview(sequence: ResolvedSequence) -> list[str]:
    """Say what a sequence is going to do, in lines for the console.

    Args:
        sequence (ResolvedSequence): Checked.
    """
    plan, entries = sequence.plan, sequence.entries
    adapter = entries.adapter
    trained = 'all weights are trained'
    if adapter is not None:
        trained = (
            f'a LoRA of rank {adapter.get("rank", 8)} on '
            f'{adapter.get("target", "ffn")} is trained'
        )
    lines = [
        f'{len(plan)} step{"s" * (len(plan) > 1)}, '
        f'{len(plan.classes)} classes, '
        f'{get_world_size()} process(es); work dir {sequence.work_dir.path}',
        f'{sequence.task.name} by {sequence.cfg.model.type}, forgetting by '
        f'{entries.method.cls.__name__}: {trained}',
    ]
    most = 'at most ' * entries.schedule.may_end_early
    for step, names in enumerate(plan.steps, 1):
        new = plan.learn[step - 1] if plan.learn else ()
        counts = ' and '.join(
            f'{number} of {sequence.found[step - 1][role]} {role}'
            for role, number in sequence.images[step - 1].items()
            if number
        )
        lines.append(
            f'  step {step}: forget {shortened(names)} '
            + f'and learn {shortened(new)} ' * bool(new)
            + f'({counts} images, {most}{sequence.max_iters[step - 1]} '
            'iterations)'
        )
    if sequence.image_seconds is not None:
        lines.append(_cost(sequence))
    return lines


def _cost(sequence: ResolvedSequence) -> str:
    """Say how long a sequence will take."""
    images = sum(sequence.max_iters) * sequence.entries.schedule.batch_size
    scored = sequence.num_validation * (len(sequence.plan) + 1)
    training = TRAINING_FACTOR * images * sequence.image_seconds
    scoring = scored * sequence.image_seconds / get_world_size()
    return (
        f'roughly {duration(training + scoring)} on this machine: '
        f'{duration(training)} of training, {duration(scoring)} to score '
        f'{sequence.num_validation} images before and after each step'
    )


def seconds_per_image(
    model: BaseModel,
    dataset: BaseDataset,
    batch_size: int,
    num_workers: int = 0,
) -> float:
    """Measure how long a model takes for an image at test time.

    Args:
        model (BaseModel): Moved to the device that it would be trained on.
        dataset (BaseDataset): Validation images.
        batch_size (int): Images of a batch; of them 16 at most are used.
        num_workers (int): Processes that load images while it computes.
            Defaults to 0.
    """
    model = model.to(get_device()).eval()
    for _ in range(2):  # the first pass warms up
        start = time.perf_counter()
        count = min(batch_size, 16, len(dataset))
        batch = pseudo_collate([dataset[index] for index in range(count)])
        loading = time.perf_counter() - start
        start = time.perf_counter()
        with torch.no_grad():
            model.test_step(batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        computing = time.perf_counter() - start
    if num_workers:
        return max(loading / num_workers, computing) / count
    return (loading + computing) / count
