"""Make a trained model forget: from its config and checkpoint to a report.

    python tools/forget.py my_detector.py epoch_50.pth --forget person \\
        --forget car bus

Each --forget is one request, and they are met one after another. The config
of mmdet or mmpretrain may be anywhere; paths in it are relative to where this
is called. What is going to run is written to WORK_DIR/forget.py, a config for
tools/train.py (and tools/dist_train.sh, for several GPUs).
"""

import argparse
import os
import sys

from gslora_mm.utils import ConfigError, SaveError
from gslora_mm.utils.command_line import DictAction, imports, resumed

#: Words of the command line by what errors call them.
FLAGS = {
    'config': 'CONFIG',
    'checkpoint': 'CHECKPOINT',
    'forgetting.pretrained': 'CHECKPOINT',
    'forget': '--forget',
    'level': '--level',
    'method': '--method',
    'share': '--share',
    'shots': '--shots',
    'forgetting.shots': '--shots',
    'work_dir': '--work-dir',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'config', help='config that the model was trained with'
    )
    parser.add_argument('checkpoint', help='stock checkpoint, a path or URL')
    parser.add_argument(
        '--forget',
        nargs='+',
        action='append',
        required=True,
        metavar='CLASS',
        help='classes of one request: names, beginnings of names or labels',
    )
    parser.add_argument(
        '--level',
        metavar='behaviour|features|weights',
        help='what is to be gone: what the model says, what its features '
        'tell, what\ncan be trained back from its weights; default: behaviour',
    )
    parser.add_argument(
        '--method',
        help='method in place of that of a level, such as gs_lora: a file of\n'
        'configs/_base_/methods',
    )
    parser.add_argument(
        '--share', type=float, help='share of the training images to use'
    )
    parser.add_argument(
        '--shots', type=int, help='training images of each class to use'
    )
    parser.add_argument(
        '--work-dir', help='default: work_dirs/NAME_OF_THE_CONFIG_forget'
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='check everything, say what would be done, and stop',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with what the work dir holds',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='more settings, for example schedule.max_iters=100; they become\n'
        'part of the config',
    )
    return parser.parse_args()


with imports(__name__, parse_args, f'to go on: {resumed()}'):
    import mmdet.datasets  # noqa: F401  (greets on import)
    from mmengine.config import Config

    from gslora_mm.sequence import ForgettingSequence, write_request
    from gslora_mm.training import enable_amp, leave


def forget(args: argparse.Namespace) -> None:
    path = write_request(
        args.config,
        args.checkpoint,
        args.forget,
        level=args.level,
        method=args.method,
        share=args.share,
        shots=args.shots,
        work_dir=args.work_dir,
        options=args.cfg_options,
    )
    train = os.path.join(os.path.dirname(sys.argv[0]), 'train.py')
    print(f'config: {path}')
    print(f'to run it again: python {train} {path}' + ' --amp' * args.amp)
    cfg = Config.fromfile(path)
    cfg.launcher = 'none'
    if args.amp:
        cfg.schedule.optim_wrapper = enable_amp(cfg.schedule.optim_wrapper)
    sequence = ForgettingSequence(cfg, resume=args.resume, estimates=True)
    if args.dry_run:
        sequence.check()
    else:
        sequence.run()


def told_by_flags(error: ConfigError, args: argparse.Namespace) -> ConfigError:
    """The same error in words of the command line."""
    flags = dict(FLAGS)
    if args.share is not None:
        for half in ('forget', 'retain'):
            flags[f'forgetting.{half}_share'] = '--share'
    flag = flags.get(error.path.partition('[')[0])
    return error.at(renamed={error.path: flag} if flag else None)


def main() -> None:
    args = parse_args()
    try:
        forget(args)
    except ConfigError as error:
        leave(f'ConfigError: {told_by_flags(error, args)}')
    except (SaveError, FloatingPointError) as error:
        leave(f'{type(error).__name__}: {error}')
    except KeyboardInterrupt:
        leave(f'interrupted; to go on: {resumed()}')
    leave()


if __name__ == '__main__':
    main()
