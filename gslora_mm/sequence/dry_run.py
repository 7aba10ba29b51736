"""Everything that can be found wrong before the first iteration.

The very configs that will run are tried out: what the Runner would build of
them is built, an image of each half is loaded, and so is the checkpoint.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import Tensor

from gslora_mm.datasets import check_images
from gslora_mm.methods import BaseMethod
from gslora_mm.registry import HOOKS, METHODS, METRICS, MODELS, registered
from gslora_mm.training import ForgettingModel
from gslora_mm.training.replay_cache import check_replay_cache
from gslora_mm.utils import ConfigError, config_path, usable
from gslora_mm.utils.quiet import no_prints
from .method_state import load_own_file, state_identity
from .overview import seconds_per_image
from .plan import ForgettingPlan
from .resolve import ResolvedSequence, resolve

#: What the arguments of the model are called in a sequence config.
_MODEL_PATHS = {
    'model.checkpoint': 'forgetting.pretrained',
    'model.allow_pickle': 'forgetting.allow_pickle',
}


def check_sequence(cfg: Config, timed: bool = False) -> ResolvedSequence:
    """Read a sequence, and build and load all that it will need.

    Args:
        cfg (Config): The sequence config.
        timed (bool): Whether to measure how long an image takes. Defaults to
            False.

    Returns:
        ResolvedSequence: A sequence that can run.

    Raises:
        ConfigError: Naming the entry of the config, what it is, and what it
            could be.
    """
    sequence = resolve(cfg)
    evaluation, configs = sequence.configs()
    _check_images(sequence)
    _try_evaluator(evaluation.val_evaluator, sequence.validation)
    methods = []
    for config, replay in zip(configs, sequence.replay, strict=True):
        methods.append(METHODS.build(config.model.method))
        with usable('train_dataloader.dataset'):
            for half in filter(len, replay.datasets):
                half[0]
    with config_path(renamed=_MODEL_PATHS), _known_types('model'):
        model = MODELS.build(
            configs[0].model,
            default_args=dict(
                data_preprocessor=configs[0].get('data_preprocessor')
            ),
        )
    _check_num_classes(sequence, model)
    model.task.try_model(model.model)
    _try_optimization(configs, model, sequence.images[0])
    cache = sequence.entries.schedule.cache
    for replay in sequence.replay:
        check_replay_cache(model, replay, cache.use, cache.variants)
    if sequence.plan.learn:
        for method, names in zip(methods, sequence.plan.learn, strict=True):
            if names:
                _check_learner(method, sequence.plan)
        _check_rows(sequence.plan, model.task.class_weights(model.model))
    identity = state_identity(
        model.method, sequence.checkpoint_sha256, sequence.plan.classes
    )
    load_own_file(model.method, configs[0].model.method, identity)
    seconds = None
    if timed:
        with usable('val_dataloader.dataset'):
            seconds = seconds_per_image(
                model,
                sequence.validation,
                sequence.entries.schedule.batch_size,
                evaluation.val_dataloader.get('num_workers', 0),
            )
    # Annotations are large, and no step looks at these.
    return replace(sequence, replay=[], validation=None, image_seconds=seconds)


@contextlib.contextmanager
def _known_types(path: str) -> Iterator[None]:
    """Say how a type becomes known that no library has."""
    try:
        with usable(path):
            yield
    except ConfigError as error:
        if isinstance(error.__cause__, KeyError) and 'registry' in error.valid:
            raise ConfigError(
                path,
                valid=f'{error.__cause__.args[0].partition(". ")[0]}. If its '
                'code is in a package of its own, let the config import that: '
                "custom_imports=dict(imports=['PACKAGE'])",
            ) from error
        raise


def _check_images(sequence: ResolvedSequence) -> None:
    """Look for all images: one that lacks would end a run in its middle."""
    halves = [half for step in sequence.replay for half in step.datasets]
    replayed = sorted({int(i) for half in halves for i in half.indices})
    validation = sequence.validation
    with config_path('train_dataloader.dataset'):
        check_images(halves[0].dataset, replayed)
    with config_path('val_dataloader.dataset'):
        check_images(validation, range(len(validation)))


def _try_evaluator(
    metrics: dict | list[dict], validation: BaseDataset
) -> None:
    """Build the metrics, which read annotations and compare names."""
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        with no_prints(), usable('val_evaluator'):
            metric = METRICS.build(metric)
            metric.dataset_meta = validation.metainfo
            if hasattr(metric, 'check_dataset'):
                metric.check_dataset(validation)


def _try_optimization(
    configs: list[Config], model: ForgettingModel, images: dict[str, int]
) -> None:
    """Build optimizer, schedulers and hooks of every step."""
    with usable('schedule.optim_wrapper'):
        optim_wrapper = build_optim_wrapper(model, configs[0].optim_wrapper)
    for cfg in configs:
        for scheduler in cfg.param_scheduler:
            with usable('schedule.param_scheduler'):
                PARAM_SCHEDULERS.build(
                    scheduler, default_args=dict(optimizer=optim_wrapper)
                )
    first = configs[0]
    hooks = []
    for config in [first.default_hooks.checkpoint, *first.custom_hooks]:
        with usable('schedule.hooks'):
            hooks.append(HOOKS.build(config))
    for hook in hooks:
        if hasattr(hook, 'check_method'):
            hook.check_method(model.method)
        if hasattr(hook, 'check_images'):
            hook.check_images(images)
        if hasattr(hook, 'check_others'):
            hook.check_others(hooks, model)
    interval = first.default_hooks.checkpoint.interval
    counts = first.optim_wrapper.get('accumulative_counts', 1)
    if interval % counts:
        raise ConfigError(
            'schedule.checkpoint_interval',
            interval,
            'must be a multiple of schedule.optim_wrapper.accumulative_counts '
            f'= {counts}: between two updates the gathered gradients would be '
            'lost',
        )


def _check_num_classes(
    sequence: ResolvedSequence, model: ForgettingModel
) -> None:
    found, wanted = (
        model.task.num_classes(model.model),
        len(sequence.plan.classes),
    )
    if found != wanted:
        raise ConfigError(
            f'the model tells {found} classes apart, the dataset has '
            f'{wanted}; set num_classes of the head, or metainfo.classes of '
            'train_dataloader.dataset'
        )


def _check_learner(method: BaseMethod, plan: ForgettingPlan) -> None:
    """Refuse to learn by a method that does not."""
    if method.can_learn and 'retain' in method.needs:
        return
    able = sorted(
        name
        for name, cls in registered(METHODS).items()
        if cls.can_learn and 'retain' in cls.needs and cls is not type(method)
    )
    own = method.learns_with and f', and this one with {method.learns_with}'
    raise ConfigError(
        'forgetting.learn',
        [list(names) for names in plan.learn],
        f'method.type = {type(method).__name__!r} learns nothing, as it looks '
        'at no retain image or holds the model to what it was; methods that '
        f'learn: {", ".join(able)}{own}',
    )


def _check_rows(plan: ForgettingPlan, rows: Tensor) -> None:
    """Refuse to learn two classes that the class layer cannot tell apart.

    The adapter leaves the class layer as it is. Rows that started equal, at
    zero, and that no image of theirs was ever trained on, are equal still.
    """
    label_of = {name: label for label, name in enumerate(plan.classes)}
    first_with: dict[tuple, str] = {}
    for name in (name for names in plan.learn for name in names):
        row = tuple(rows[label_of[name]].tolist())
        first = first_with.setdefault(row, name)
        if first != name:
            raise ConfigError(
                'forgetting.learn',
                valid=f'it names {first!r} and {name!r}, whose rows in the '
                'class layer of forgetting.pretrained are the same, so that '
                'nothing could tell them apart: pre-train with a class layer '
                'that starts at random (init_cfg=dict(type='
                "'TruncNormal', layer='Linear', std=0.02)), or learn one of "
                'them',
            )
