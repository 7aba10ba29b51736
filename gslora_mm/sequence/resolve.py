"""From one sequence config to one ordinary config per step.

Pure functions: nothing is built, read or written here.
"""

import copy
from typing import Any

from mmengine.config import Config

from gslora_mm.registry import METHODS, class_of
from gslora_mm.utils import ConfigError
from .plan import ForgettingPlan

#: Top-level entries that describe a sequence. None of them is a key of mmdet
#: or mmpretrain, so that they can stand beside any of their configs.
SEQUENCE_KEYS = ('forgetting', 'task', 'method', 'adapter', 'schedule')

#: Modules whose log records reach the console during a sequence.
CONSOLE = ('progress_hook', 'early_stop_hook')

FORGETTING_DEFAULTS = dict(
    retain_share=None,
    forget_share=None,
    shots=None,
    missing=[],
    learn=[],
    sampling='balanced',
    other_annotations='drop',
    only_split_images=False,
    allow_pickle=False,
    seed=0,
)
SCHEDULE_DEFAULTS = dict(
    max_iters=None,
    max_epochs=None,
    forget_ratio=None,
    param_scheduler=None,
    checkpoint_interval=100,
    log_interval=50,
    hooks=[],
)


def plain_config(entries: dict) -> Config:
    """A config whose text is not formatted with yapf.

    MMEngine makes the text of a config anew for its log, its dump, every
    visualizer backend and every checkpoint. With yapf that took a second each
    time for 100 classes.
    """
    return Config(entries, format_python_code=False)


def with_defaults(entry: dict, defaults: dict, required: dict, key: str):
    """Fill in an entry of a config and refuse what it cannot have.

    Raises:
        ConfigError: If a key is unknown or a required one is missing.
    """
    for name, meaning in required.items():
        if name not in entry:
            raise ConfigError(f'{key}.{name} is missing: {meaning}')
    known = {**dict.fromkeys(required), **defaults}
    for name in entry:
        if name not in known:
            raise ConfigError(
                f'{key}.{name} is not an entry of {key}; known are '
                + ', '.join(known)
            )
    return {**copy.deepcopy(defaults), **entry}


def complete_forgetting(entry: dict) -> dict:
    """The entry ``forgetting`` of a sequence config with its defaults.

    Raises:
        ConfigError: See :func:`with_defaults`.
    """
    required = dict(
        pretrained='path or url of the stock checkpoint that is to forget',
        steps='a list with the class names of each step',
    )
    return with_defaults(entry, FORGETTING_DEFAULTS, required, 'forgetting')


def complete_schedule(entry: dict) -> dict:
    """The entry ``schedule`` of a sequence config with its defaults.

    Raises:
        ConfigError: See :func:`with_defaults`; or if the learning rate would
            be annealed upwards.
    """
    required = dict(
        batch_size='images of a batch, both halves together',
        optim_wrapper="for example dict(type='OptimWrapper', "
        "optimizer=dict(type='AdamW', lr=1e-3))",
    )
    schedule = with_defaults(entry, SCHEDULE_DEFAULTS, required, 'schedule')
    _check_annealing(schedule)
    return schedule


def _check_annealing(schedule: dict) -> None:
    """Refuse a learning rate that would end above where it began."""
    lr = schedule['optim_wrapper']
    for key in ('optimizer', 'lr'):
        lr = lr.get(key) if isinstance(lr, dict) else None
    # A momentum's least value has the same name. One that is not the last
    # may well rise, as in cycles.
    last = [
        scheduler
        for scheduler in _listed(schedule['param_scheduler'])
        if str(scheduler.get('type')).endswith('LR')
    ][-1:]
    for scheduler in last:
        eta_min = scheduler.get('eta_min')
        if eta_min is not None and lr is not None and eta_min > lr:
            raise ConfigError(
                f'schedule.param_scheduler.eta_min = {eta_min} is above the '
                f'learning rate, schedule.optim_wrapper.optimizer.lr = {lr}, '
                'which would rise to it; set eta_min=0, or eta_min_ratio '
                'instead'
            )


def num_iterations(schedule: dict, per_epoch: int) -> int:
    """How long a step is trained.

    Args:
        schedule (dict): ``cfg.schedule``, completed.
        per_epoch (int): Iterations of one pass over the retain images, or
            the forget images where there are no others in a batch.

    Raises:
        ConfigError: If the schedule does not say, or says it twice.
    """
    max_iters, epochs = schedule['max_iters'], schedule['max_epochs']
    if (max_iters is None) == (epochs is None):
        raise ConfigError(
            f'schedule.max_iters = {max_iters!r} and schedule.max_epochs = '
            f'{epochs!r}: set exactly one of them, the other one to None (an '
            'epoch is one pass over the retain images)'
        )
    key, value = (
        ('max_iters', max_iters) if epochs is None else ('max_epochs', epochs)
    )
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f'schedule.{key} = {value!r}: must be an int >= 1')
    return value if epochs is None else value * per_epoch


def forget_ratio(schedule: dict, method: dict) -> float:
    """Share of a batch that is to be forgotten.

    If the schedule does not say, it is half of what the method needs.

    Args:
        schedule (dict): ``cfg.schedule``, completed.
        method (dict): ``cfg.method``.

    Raises:
        ConfigError: If a part that the method needs would be empty.
    """
    cls = class_of(method, METHODS)
    by_needs = {('forget',): 1.0, ('retain',): 0.0}
    ratio = schedule['forget_ratio']
    if ratio is None:
        return by_needs.get(cls.needs, 0.5)
    for role, lacks in dict(forget=ratio == 0, retain=ratio == 1).items():
        if lacks and role in cls.needs:
            raise ConfigError(
                f'schedule.forget_ratio = {ratio!r}: {cls.__name__} needs '
                f'{role} images in every batch; valid are numbers between 0 '
                'and 1'
            )
    return ratio


def for_step(value: Any, step: int, num_steps: int, key: str) -> Any:
    """Value of a setting that may be a list with one entry a step.

    Raises:
        ConfigError: If it is a list of another length.
    """
    if not isinstance(value, list | tuple):
        return value
    if len(value) != num_steps:
        raise ConfigError(
            f'{key} = {list(value)} has {len(value)} entries for '
            f'{num_steps} steps; give one number, or one for each step'
        )
    return value[step - 1]


def method_for_step(method: dict, step: int, num_steps: int) -> dict:
    """The method's config with the settings of one step."""
    names = class_of(method, METHODS).per_step
    return {
        name: for_step(value, step, num_steps, f'method.{name}')
        if name in names
        else value
        for name, value in method.items()
    }


def replay_for_step(
    forgetting: dict, plan: ForgettingPlan, step: int, ratio: float = 0.5
) -> dict[str, dict]:
    """Arguments of the forget and the retain subset of a step.

    What has been learned is replayed with what is retained; nothing is seen
    of classes that are missing or not yet to be learned. Of a subset that
    batches have nothing of, no image need exist.

    Args:
        forgetting (dict): ``cfg.forgetting``, completed.
        plan (ForgettingPlan): Its steps.
        step (int): Number of the step, from 1.
        ratio (float): Share of a batch that is to be forgotten. Defaults to
            0.5.

    Returns:
        dict[str, dict]: ``forget`` and ``retain`` of
        :class:`~gslora_mm.datasets.ForgetRetainDataset`.
    """
    splits = plan.splits(step)
    annotations = forgetting['other_annotations']
    if not isinstance(annotations, dict):
        annotations = dict(forget=annotations, retain=annotations)
    shared = dict(
        sampling=forgetting['sampling'],
        shots=forgetting['shots'],
    )
    hidden = splits['missing'] + plan.unknown(step)
    known = splits['retain'] + splits.get('learned', [])
    return dict(
        forget=dict(
            is_used=ratio > 0,
            classes=splits['forget'],
            exclude=hidden,
            other_annotations=annotations.get('forget', 'drop'),
            share=forgetting['forget_share'],
            seed=forgetting['seed'] + 2 * step,
            **shared,
        ),
        retain=dict(
            is_used=ratio < 1,
            classes=[name for name in known if name not in hidden],
            exclude=hidden,
            other_annotations=annotations.get('retain', 'drop'),
            share=forgetting['retain_share'],
            seed=forgetting['seed'] + 2 * step + 1,
            **shared,
        ),
    )


def stock_config(cfg: Config, work_dir: str, evaluator: dict) -> Config:
    """Config that only evaluates the stock model.

    Args:
        cfg (Config): The sequence config.
        work_dir (str): Where the evaluation writes its log.
        evaluator (dict): The forgetting evaluator.

    Returns:
        Config: Without any trace of training.
    """
    stock = base_config(cfg, work_dir)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        stock.pop(key, None)
    for stage in ('val', 'test'):
        stock[f'{stage}_dataloader'] = copy.deepcopy(cfg['val_dataloader'])
        stock[f'{stage}_evaluator'] = copy.deepcopy(evaluator)
    stock['val_cfg'] = dict(type='ValLoop')
    stock['test_cfg'] = dict(type='TestLoop')
    return plain_config(stock)


def base_config(cfg: Config, work_dir: str) -> dict:
    """What pre-trained evaluation and all steps have in common."""
    base = copy.deepcopy(cfg._cfg_dict.to_dict())
    for key in SEQUENCE_KEYS + (
        'param_scheduler',
        'auto_scale_lr',
        'custom_hooks',
        'load_from',
        'resume',
    ):
        base.pop(key, None)
    base['work_dir'] = work_dir
    # MMEngine keeps loggers, visualizers and message hubs by name for as
    # long as the process lives; one name a step keeps them apart.
    name = work_dir.strip('/').replace('/', '_')
    base['experiment_name'] = name
    base['visualizer'] = {
        'type': 'Visualizer',
        'vis_backends': [dict(type='LocalVisBackend')],
        **base.get('visualizer', {}),
        'name': name,
    }
    base['log_processor'] = dict(
        type='LogProcessor', window_size=50, by_epoch=False
    )
    base['runner_type'] = 'gslora_mm.Runner'
    base['console'] = CONSOLE
    hooks = dict(base.get('default_hooks') or {})
    hooks.pop('visualization', None)
    base['default_hooks'] = {**hooks, 'checkpoint': None}
    return base


def step_config(
    cfg: Config,
    plan: ForgettingPlan,
    step: int,
    *,
    forgetting: dict,
    schedule: dict,
    task: dict,
    checkpoint: str,
    evaluator: dict,
    max_iters: list[int],
    work_dir: str,
    before: str,
    pretrained_sha256: str,
    method_state: str | None,
) -> Config:
    """One ordinary MMEngine config that runs one step.

    Args:
        cfg (Config): The sequence config.
        plan (ForgettingPlan): Its steps.
        step (int): Number of the step, from 1.
        forgetting (dict): ``cfg.forgetting``, completed.
        schedule (dict): ``cfg.schedule``, completed.
        task (dict): Config of the task.
        checkpoint (str): Stock checkpoint that the step starts from.
        evaluator (dict): The forgetting evaluator of this step.
        max_iters (list[int]): Iterations of every step.
        work_dir (str): Work dir of the step.
        before (str): File with the metrics of the pre-trained model.
        pretrained_sha256 (str): Hash of the pre-trained checkpoint.
        method_state (str | None): File with what the method of the step
            before carries on; None in the first step.

    Returns:
        Config: To be run by :func:`gslora_mm.sequence.run_step`.
    """
    out = dict(stock_config(cfg, work_dir, evaluator)._cfg_dict.to_dict())
    iters = max_iters[step - 1]
    out['model'] = dict(
        type='gslora_mm.ForgettingModel',
        model=out['model'],
        task=dict(task),
        method=method_for_step(cfg.method, step, len(plan)),
        adapter=cfg.get('adapter'),
        checkpoint=checkpoint,
        allow_pickle=forgetting['allow_pickle'] and step == 1,
    )
    seed = (cfg.get('randomness') or {}).get('seed') or 0
    out['randomness'] = {
        **(cfg.get('randomness') or {}),
        'seed': seed + step,
    }
    loader = copy.deepcopy(cfg._cfg_dict.to_dict()['train_dataloader'])
    ratio = forget_ratio(schedule, cfg.method)
    out['train_dataloader'] = {
        **loader,
        'batch_size': schedule['batch_size'],
        'batch_sampler': None,
        'sampler': dict(
            type='gslora_mm.ForgetRetainSampler',
            batch_size=schedule['batch_size'],
            forget_ratio=ratio,
            seed=seed + step,
        ),
        'dataset': dict(
            type='gslora_mm.ForgetRetainDataset',
            dataset=loader['dataset'],
            **replay_for_step(forgetting, plan, step, ratio),
        ),
    }
    out['train_cfg'] = dict(
        type='IterBasedTrainLoop',
        max_iters=iters,
        # The one evaluation of a step is that of the merged model.
        val_begin=iters + 1,
    )
    out['optim_wrapper'] = copy.deepcopy(schedule['optim_wrapper'])
    out['param_scheduler'] = schedulers(schedule['param_scheduler'], iters)
    interval = schedule['log_interval']
    out['default_hooks'] = {
        **out['default_hooks'],
        'logger': dict(type='gslora_mm.StepLoggerHook', interval=interval),
        'checkpoint': dict(
            type='gslora_mm.StepCheckpointHook',
            interval=schedule['checkpoint_interval'],
        ),
    }
    out['custom_hooks'] = [
        dict(type='gslora_mm.MethodHook'),
        dict(type='gslora_mm.GroupNormHook', interval=interval),
        dict(
            type='gslora_mm.ProgressHook',
            step=step,
            num_steps=len(plan),
            later_iters=sum(max_iters[step:]),
            interval=interval,
        ),
        *copy.deepcopy(schedule['hooks']),
    ]
    out['forgetting_step'] = dict(
        step=step,
        splits=plan.splits(step),
        before=before,
        pretrained_sha256=pretrained_sha256,
        method_state=method_state,
    )
    return plain_config(out)


def _listed(configs: Any) -> list[dict]:
    """Configs of schedulers: none, one or some."""
    return [configs] if isinstance(configs, dict) else list(configs or [])


def schedulers(configs: Any, max_iters: int) -> list[dict]:
    """Parameter schedulers that count iterations and end with the step.

    Args:
        configs (dict | list[dict] | None): As in a config; ``by_epoch`` must
            be false or absent, ``end`` (and ``T_max`` of cosine annealing)
            defaults to the number of iterations.
        max_iters (int): Iterations of the step.

    Raises:
        ConfigError: If one counts epochs.
    """
    out = []
    for config in _listed(configs):
        if config.get('by_epoch', False):
            raise ConfigError(
                'schedule.param_scheduler has by_epoch=True; the steps of a '
                'sequence count iterations: set by_epoch=False'
            )
        config = {**config, 'by_epoch': False}
        config.setdefault('end', max_iters)
        if config['type'].split('.')[-1].startswith('CosineAnnealing'):
            span = config['end'] - config.get('begin', 0)
            config.setdefault('T_max', span)
        out.append(config)
    return out
