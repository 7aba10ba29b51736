"""Files of audits, as tools/audit.py leaves them, in a moment."""

from collections.abc import Sequence
from pathlib import Path

from gslora_mm.utils import save_json


def make_audit(
    step: int,
    classes: Sequence[str],
    retrained: int = 2,
    sha256: str = 'ab' * 32,
) -> dict:
    """An audit of three attacks; with retrained models, three verdicts.

    Args:
        step: Number of the step.
        classes: Those to bring back; the last scores highest, the first is
            most above its reference.
        retrained: How many retrained models there are.
        sha256: Of the file that was attacked.
    """

    def attack(name, after, verdict, **setting):
        has_control = retrained > 0
        return dict(
            name=name,
            setting=setting,
            metric='accuracy',
            higher_is_leak=True,
            pretrained=0.93,
            after=after,
            after_interval=[after - 0.04, after + 0.04],
            retrained=[0.69 + 0.02 * n for n in range(retrained)],
            allowed=0.75 if has_control else None,
            per_class={
                each: after + 0.01 * place
                for place, each in enumerate(classes)
            },
            separates=verdict is not None if has_control else None,
            resisted=verdict if has_control else None,
            worst=dict(
                name=classes[0],
                after=after,
                retrained=[0.5, 0.5, 0.6][:retrained],
                resisted=verdict,
            )
            if has_control and verdict is not None
            else None,
            seconds=3.1,
        )

    return dict(
        step=step,
        claim='concept',
        classes=list(classes),
        checkpoint_sha256=sha256,
        retrained_sha256=[f'{n:02x}' * 32 for n in range(retrained)],
        attacks=[
            attack('linear_probe', 0.7, True, depth='decoder.2', shots=5),
            attack('relearning', 0.88, False, iterations=[10, 60]),
            attack('similarity', 0.9, None),
        ],
        not_run=[dict(name='membership', reason='there are no images.')],
    )


def write_audit(work_dir: Path, audit: dict | list) -> None:
    """Put audits where reports look for them."""
    save_json(audit, work_dir / 'audit' / 'audit.json')
