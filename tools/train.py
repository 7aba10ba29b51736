"""Train a model, or make a trained one forget.

A config with a ``forgetting`` entry runs the whole sequence; a config that
one step of a sequence dumped runs this step; any other config is an ordinary
training run of mmdet or mmpretrain.
"""

import argparse
import os
import os.path as osp

from gslora_mm.utils import ConfigError, SaveError
from gslora_mm.utils.command_line import DictAction, imports, resumed


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder for logs, checkpoints and the report; default: work_dir '
        'of the config, or else work_dirs/NAME_OF_THE_CONFIG',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on with what the work dir holds; an ordinary training run '
        'also takes the checkpoint to resume from',
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
        help='settings that override those of the config, for example '
        'method.beta=0.3 schedule.max_iters=100',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how this process was started',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )
    return parser.parse_args()


with imports(__name__, parse_args, f'to go on: {resumed()}'):
    import mmdet.datasets  # noqa: F401  (greets on import)
    from mmengine.config import Config
    from mmengine.registry import RUNNERS
    from mmengine.runner import find_latest_checkpoint

    from gslora_mm.registry import init_scope
    from gslora_mm.sequence import ForgettingSequence, run_step
    from gslora_mm.training import enable_amp, init_processes, leave
    from gslora_mm.utils.config_file import read_config
    from gslora_mm.work_dir import own_folder


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the command line to it."""
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    else:
        name = osp.splitext(osp.basename(args.config))[0]
        found = cfg.get('work_dir') or osp.join('work_dirs', name)
        # Dumped configs name the folder of the training that dumped them.
        is_own = 'forgetting' not in cfg
        cfg.work_dir = found if is_own else own_folder(found, name)
        if cfg.work_dir != found:
            print(f'work dir {cfg.work_dir}, as {found} holds a training')
    if args.amp:
        where = cfg.schedule if 'forgetting' in cfg else cfg
        where.optim_wrapper = enable_amp(where.optim_wrapper)
    return cfg


def train(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    if args.launcher != 'none':
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
        init_processes(args.launcher, cfg.get('env_cfg', {}).get('dist_cfg'))
    init_scope(cfg)
    if 'forgetting' in cfg:
        sequence = ForgettingSequence(cfg, resume=args.resume is not None)
        sequence.run()
    elif 'forgetting_step' in cfg:
        run_step(cfg, resume=args.resume is not None)
    else:
        train_stock_model(cfg, args.resume)


def train_stock_model(cfg: Config, resume: str | None) -> None:
    """An ordinary training run, resumed as mmdet's own tool would."""
    cfg.setdefault('runner_type', 'gslora_mm.Runner')
    if resume == 'auto':
        if find_latest_checkpoint(cfg.work_dir):
            cfg.resume, cfg.load_from = True, None
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    RUNNERS.build(cfg).train()


def main() -> None:
    args = parse_args()
    try:
        train(args)
    except ConfigError as error:
        flags = '; see --work-dir and --resume' * (error.path == 'work_dir')
        leave(f'ConfigError: {error}{flags}')
    except (SaveError, FloatingPointError) as error:
        # What the user can mend needs no traceback.
        leave(f'{type(error).__name__}: {error}')
    except KeyboardInterrupt:
        leave(f'interrupted; to go on: {resumed()}')
    leave()


if __name__ == '__main__':
    main()
