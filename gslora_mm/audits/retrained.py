"""Models that never learned the classes: what an audit compares with."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from gslora_mm.datasets import type_name
from gslora_mm.registry import RUNNERS, init_scope
from gslora_mm.utils import ConfigError
from gslora_mm.utils.quiet import no_prints

#: Entries of a sequence, which an ordinary training run has not.
OF_SEQUENCES = ('forgetting', 'method', 'adapter', 'schedule', 'task')
#: Hooks of the config that are replaced, or wait for scores.
DROPPED_HOOKS = ('StockCheckpointHook', 'EarlyStoppingHook')


def make_retrained(
    cfg: Config,
    names: Sequence[str],
    folder: Path,
    number: int,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Train models as the config says, on the images of some classes alone.

    The annotations of all other classes are dropped, and images that show
    nothing else are left out. Those that are finished are not trained again,
    and one that was stopped goes on.

    Args:
        cfg (Config): Of the sequence; it has to say how the model is
            trained: ``train_cfg``, ``optim_wrapper`` and the like, as the
            config of the pre-trained model does.
        names (Sequence[str]): Classes to train on.
        folder (Path): Where they are to be.
        number (int): How many, with seeds from 0 on.
        say (Callable): Is told about each. Defaults to ``print``.

    Returns:
        list[str]: Paths of their stock checkpoints.

    Raises:
        ConfigError: If the config does not say how to train.
    """
    missing = [
        key for key in ('train_cfg', 'optim_wrapper') if not cfg.get(key)
    ]
    if missing:
        raise ConfigError(
            missing[0],
            None,
            'retraining needs to know how the pre-trained model was trained, '
            'and the config of the sequence has no such entry; let it '
            'inherit from the training config, or train a model without the '
            'classes yourself and give it as --retrained CHECKPOINT',
        )
    paths = []
    for seed in range(number):
        target = folder / f'retrained_{seed}'
        path = target / 'retrained.pth'
        paths.append(str(path))
        if path.exists():
            continue
        say(f'retraining {seed + 1} of {number} in {target} ...')
        own = retraining_config(cfg, names, target, seed)
        init_scope(own)
        with no_prints():
            runner = RUNNERS.build(own)
        runner.train()
        runner.close()
    return paths


def retraining_config(
    cfg: Config, names: Sequence[str], work_dir: Path, seed: int
) -> Config:
    """Config of an ordinary training run without some classes.

    Args:
        cfg (Config): Of the sequence.
        names (Sequence[str]): Classes to train on.
        work_dir (Path): Of the run.
        seed (int): Of the run.
    """
    cfg = copy.deepcopy(cfg)  # the next seed begins with it, too
    own = Config({k: v for k, v in cfg.items() if k not in OF_SEQUENCES})
    own.work_dir = str(work_dir)
    own.runner_type = 'gslora_mm.Runner'
    own.resume, own.load_from = True, None
    own.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    own.train_dataloader.dataset = dict(
        type='gslora_mm.ClassSubset',
        classes=list(names),
        dataset=cfg.train_dataloader.dataset,
    )
    # The audit scores it; what depends on scores while it trains is off.
    for part in ('cfg', 'dataloader', 'evaluator'):
        own.pop(f'val_{part}', None)
        own.pop(f'test_{part}', None)
    own.get('default_hooks', {}).get('checkpoint', {}).pop('save_best', None)
    hooks = [
        hook
        for hook in cfg.get('custom_hooks') or []
        if type_name(hook) not in DROPPED_HOOKS
    ]
    own.custom_hooks = [
        *hooks,
        dict(type='gslora_mm.StockCheckpointHook', filename='retrained.pth'),
    ]
    return own
