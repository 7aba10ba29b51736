"""Evaluate a checkpoint.

With an ordinary config this is mmdet's or mmpretrain's evaluation. With the
config of one step of a sequence, the scores come for each of its splits.
The checkpoint is a stock one: a merged one of this package, or any other.
"""

import argparse
import copy
import os
import os.path as osp

from gslora_mm.utils import ConfigError, SaveError, config_path, save_json
from gslora_mm.utils.command_line import DictAction, imports


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='stock checkpoint')
    parser.add_argument('--work-dir', help='folder for logs and metrics')
    parser.add_argument('--metrics', help='JSON file for the metrics')
    parser.add_argument('--out', help='pickle file for the predictions')
    parser.add_argument(
        '--show', action='store_true', help='show the predictions'
    )
    parser.add_argument(
        '--show-dir', help='folder in the work dir for painted images'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds between images'
    )
    parser.add_argument(
        '--allow-pickle',
        action='store_true',
        help='load a checkpoint although it executes pickled code',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override those of the config',
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


with imports(__name__, parse_args):
    import mmdet.datasets  # noqa: F401  (greets on import)
    from mmengine.config import Config
    from mmengine.registry import RUNNERS

    from gslora_mm.models import load_stock_checkpoint
    from gslora_mm.registry import TASKS, init_scope
    from gslora_mm.tasks import BaseTask, complete_task_config
    from gslora_mm.training import init_processes, leave
    from gslora_mm.utils.checkpoint import TOOL_FLAGS
    from gslora_mm.utils.config_file import read_config
    from gslora_mm.utils.distributed import model_of


def evaluation_config(cfg: Config) -> Config:
    """The part of a config that evaluates the stock model.

    Where it has nothing for tests, that is what validates.
    """
    cfg = cfg.copy()
    if not cfg.get('test_dataloader') and cfg.get('val_dataloader'):
        for name in ('dataloader', 'evaluator'):
            cfg[f'test_{name}'] = copy.deepcopy(cfg.get(f'val_{name}'))
        cfg.test_cfg = dict(type='TestLoop')
    if 'forgetting_step' in cfg:
        cfg.model = cfg.model.model
    for key in (
        'train_dataloader',
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
        'auto_scale_lr',
        'custom_hooks',
        'load_from',
    ):
        cfg.pop(key, None)
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {**hooks, 'checkpoint': None}
    cfg.runner_type = 'gslora_mm.Runner'
    cfg.console = ('logger_hook',)
    return cfg


def default_work_dir(path: str, cfg: Config) -> str:
    """Where the log of an evaluation goes if the user does not say.

    As in mmdet: to the work dir of the config, or one by its name. But a
    config that a run has left names the folder of a finished step, in which
    nothing may be overwritten.

    Args:
        path (str): File of the config.
        cfg (Config): The config as it was read.
    """
    folders, name = osp.split(osp.splitext(osp.abspath(path))[0])
    # Of any version: the type has had another name.
    if not str(cfg.get('runner_type')).startswith('gslora_mm.'):
        return cfg.get('work_dir') or osp.join('work_dirs', name)
    return osp.join('work_dirs', 'test', *folders.split(osp.sep)[-2:])


def build_task(task: dict | None, scope: str | None) -> BaseTask | None:
    """Build the task of a config; None if neither it nor its scope names one.

    Models of other libraries can be evaluated, too.
    """
    try:
        task = complete_task_config(task, scope)
    except ConfigError:
        return None
    return TASKS.build(task)


def add_outputs(
    cfg: Config, task: BaseTask | None, args: argparse.Namespace
) -> None:
    """Predictions to a file, pictures to a folder or a screen."""
    if args.out:
        if not args.out.endswith(('.pkl', '.pickle')):
            raise ConfigError('--out', args.out, 'must end in .pkl')
        evaluators = cfg.test_evaluator
        if isinstance(evaluators, dict):
            evaluators = [evaluators]
        kind = (task or BaseTask).prediction_dump
        dump = dict(type=kind, out_file_path=args.out)
        cfg.test_evaluator = [*evaluators, dump]
    if args.show or args.show_dir:
        hook = task and task.picture_hook(
            args.show_dir,
            cfg.work_dir,
            show=args.show,
            wait_time=args.wait_time,
        )
        if hook is None:
            what = type(task).__name__ if task else 'a config without a task'
            raise ConfigError(
                '--show and --show-dir',
                valid=f'no predictions are painted for {what}',
            )
        cfg.default_hooks.visualization = hook


def test(args: argparse.Namespace) -> None:
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    is_step = 'forgetting_step' in cfg
    task = cfg.model.task if is_step else cfg.get('task')
    work_dir = args.work_dir or default_work_dir(args.config, cfg)
    cfg = evaluation_config(cfg)
    cfg.work_dir = work_dir
    if args.launcher != 'none':
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
        init_processes(args.launcher, cfg.get('env_cfg', {}).get('dist_cfg'))
    scope = init_scope(cfg)
    if args.out or args.show or args.show_dir:
        add_outputs(cfg, build_task(task, scope), args)
    runner = RUNNERS.build(cfg)
    with config_path(renamed=TOOL_FLAGS):
        load_stock_checkpoint(
            model_of(runner), args.checkpoint, args.allow_pickle, 'CHECKPOINT'
        )
    metrics = runner.test()
    if args.metrics and runner.rank == 0:
        save_json(metrics, args.metrics)


def main() -> None:
    args = parse_args()
    try:
        test(args)
    except (ConfigError, SaveError) as error:
        leave(f'{type(error).__name__}: {error}')
    except KeyboardInterrupt:
        leave('interrupted; start it again')
    leave()


if __name__ == '__main__':
    main()
