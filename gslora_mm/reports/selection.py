"""What pictures are made from: config, checkpoints and images of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from gslora_mm.utils import load_json


def load_config(work_dir: Path) -> Config:
    """Config of the stock model, as the sequence dumped it."""
    config = Config.fromfile(work_dir / 'pretrained' / 'config.py')
    # The APIs take their pipeline from there; the data shown is this.
    config.test_dataloader = config.val_dataloader
    return config


def checkpoints_of(
    work_dir: Path, steps: Sequence[Mapping]
) -> dict[str, tuple[str, bool]]:
    """States of the model before any forgetting and after each step.

    Args:
        work_dir (Path): Work dir of a sequence.
        steps (Sequence[Mapping]): Its finished steps.

    Returns:
        dict: By title the checkpoint (path or URL) and whether it may be
        unpickled without restriction.
    """
    sequence = load_json(work_dir / 'sequence.json')
    checkpoints = {
        'pre-trained': (
            sequence['pretrained_path'],
            sequence.get('allow_pickle', False),
        )
    }
    for step in steps:
        merged = work_dir / f'step_{step["step"]:02d}' / 'merged.pth'
        checkpoints[f'after step {step["step"]}'] = (str(merged), False)
    return checkpoints


def choose_images(
    names: Sequence[Sequence[str]],
    requests: Sequence[Sequence[str]],
    count: int,
) -> list[int]:
    """Choose images on which the forgetting can be seen.

    The steps take turns. Each takes the image with most of its classes
    that no earlier choice has shown, if possible with a class that is
    never forgotten and with few objects; the first of equals. The choice
    depends on the ground truth alone, so it is the same for all models.

    Args:
        names (Sequence[Sequence[str]]): Classes of the objects of each
            image, one per object.
        requests (Sequence[Sequence[str]]): Forgotten classes, by step.
        count (int): How many images to choose at most.

    Returns:
        list[int]: Positions in ``names``, in the order of their choice.
    """
    seen = [set(objects) for objects in names]
    forgotten = set().union(*requests)
    shown: set[str] = set()
    chosen: list[int] = []
    for turn in range(count if requests else 0):
        request = set(requests[turn % len(requests)])
        ranks = [
            (
                len(seen[index] & request - shown),
                bool(seen[index] - forgotten),
                -max(len(names[index]), 3),  # one to three are all welcome
                -index,
            )
            for index in range(len(names))
            if index not in chosen and seen[index] & request
        ]
        if ranks:
            chosen.append(-max(ranks)[-1])
            shown |= seen[chosen[-1]]
    return chosen


def shorten(names: Sequence[str], limit: int = 18) -> str:
    """Names in one line, e.g. ``zero, one +8``."""
    text = ''
    for number, name in enumerate(names):
        longer = f'{text}, {name}' if text else name
        if len(longer) > limit and text:
            return f'{text} +{len(names) - number}'
        text = longer
    return text
