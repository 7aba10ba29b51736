"""What a new linear classifier finds in the features of a finished sequence.

For the pre-trained model, the model after each step and, if given, one that
was retrained without the classes: the backbone is frozen, a new classifier
is trained on the training images of all classes and scored on forget, old
and retain classes. Writes a table (Markdown) and all figures (JSON).
"""

import argparse
from pathlib import Path

from gslora_mm.utils import ConfigError, atomic_write, save_json
from gslora_mm.utils.quiet import hush, no_prints

hush()
with no_prints():
    import mmdet.datasets  # noqa: F401  (greets on import)

    from gslora_mm.audits.probe import probe_work_dir
    from gslora_mm.audits.probe_table import render_probe
    from gslora_mm.work_dir import WorkDir


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('work_dir', help='work dir of a sequence')
    parser.add_argument(
        '--step', type=int, help='the only step to probe; default: all'
    )
    parser.add_argument(
        '--retrained',
        metavar='CHECKPOINT',
        help='model trained without the classes that are forgotten up to '
        'the last step probed',
    )
    parser.add_argument(
        '--share', type=float, help='share of the training images to use'
    )
    parser.add_argument(
        '--shots', type=int, help='training images for each class to use'
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the choice of images and held-out rows; default: 0',
    )
    parser.add_argument(
        '--out',
        help='JSON file for the figures, with the table beside it as .md; '
        'default: linear_probe.json in the work dir',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Probe, print the table and write both files."""
    args = parse_args(argv)
    out = Path(args.out or WorkDir(args.work_dir).linear_probe)
    try:
        result = probe_work_dir(
            args.work_dir,
            step=args.step,
            retrained=args.retrained,
            share=args.share,
            shots=args.shots,
            seed=args.seed,
        )
    except ConfigError as error:
        raise SystemExit(f'error: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit('interrupted; start it again') from None
    text = render_probe(result)
    print(f'\n{text}', end='')
    save_json(result, out)
    with atomic_write(out.with_suffix('.md'), 'w') as file:
        file.write(text)


if __name__ == '__main__':
    main()
