"""Attack the models that a sequence left, and say what they still know.

Beside the pre-trained model, and models that were trained without the
classes: without one of these there are figures, but no verdict. Writes
WORK_DIR/audit/audit.json and audit.md; what is finished is not computed
again. One attack, one file: docs/en/audits.md.
"""

import argparse

from gslora_mm.utils import ConfigError, SaveError, atomic_write
from gslora_mm.utils.command_line import DictAction, imports

#: All there are: the help must not wait for them to be imported.
ATTACKS = (
    'collateral',
    'head_transplant',
    'linear_probe',
    'localisation',
    'membership',
    'prototype',
    'redirection',
    'relearning',
    'retain_tuning',
    'rounding',
    'similarity',
    'verification',
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('work_dir', help='work dir of a sequence')
    parser.add_argument(
        '--step', type=int, help='a finished step; default: the last one'
    )
    parser.add_argument(
        '--retrained',
        nargs='+',
        default=[],
        metavar='CHECKPOINT',
        help='models that never learned the classes forgotten so far',
    )
    parser.add_argument(
        '--candidate',
        metavar='CHECKPOINT',
        help='attack this model in place of that after the step, such as a\n'
        'second retrained one, which has to pass; writes candidate.json',
    )
    parser.add_argument(
        '--make-retrained',
        type=int,
        default=0,
        metavar='N',
        help='train N of these by the config of the sequence',
    )
    parser.add_argument(
        '--attacks',
        nargs='+',
        metavar='NAME',
        help='default: all that fit the model. Known are\n'
        + ', '.join(ATTACKS),
    )
    parser.add_argument(
        '--seeds',
        default='0',
        help='of whatever an attack draws, such as 0,1,2; default: 0',
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=2000,
        help='most training images that are read; default: 2000',
    )
    parser.add_argument(
        '--options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='ATTACK.KEY=VALUE',
        help='settings of attacks, for example relearning.shots=10',
    )
    args = parser.parse_args(argv)
    try:
        args.seeds = [int(seed) for seed in args.seeds.split(',')]
    except ValueError:
        parser.error(f'--seeds {args.seeds}: must be integers, such as 0,1,2')
    if args.retrained and args.make_retrained:
        parser.error('--make-retrained: there is --retrained, give one')
    return args


with imports(
    __name__, parse_args, 'the same command goes on with what is not finished'
):
    import mmdet.datasets  # noqa: F401  (greets on import)

    from gslora_mm.audits import Audit
    from gslora_mm.audits.audit_table import render_audit
    from gslora_mm.reports import write_report


def main(argv: list[str] | None = None) -> None:
    """Attack, write both files and put the figures into the report."""
    args = parse_args(argv)
    options: dict = {}
    for key, value in args.options.items():
        name, _, setting = key.partition('.')
        options.setdefault(name, {})[setting] = value
    try:
        audit = Audit(
            args.work_dir,
            step=args.step,
            retrained=args.retrained,
            candidate=args.candidate,
            make_retrained=args.make_retrained,
            attacks=args.attacks,
            options=options,
            seeds=args.seeds,
            max_images=args.max_images,
        )
        result = audit.attack()
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from None
    text = render_audit(result)
    path = audit.files[1]
    with atomic_write(path, 'w') as file:
        file.write(text)
    print(f'\n{text}', end='')
    if args.candidate is None:
        write_report(args.work_dir)
    print(f'audit: {path}')


if __name__ == '__main__':
    main()
