"""Single iterations on random images: forgetting, and what to compare to."""

import argparse
import gc
import sys
from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.profiler import profile

from gslora_mm.models import build_stock_model
from gslora_mm.registry import TASKS
from gslora_mm.tasks import complete_task_config
from gslora_mm.training import ForgettingModel, enable_amp
from gslora_mm.training.trunk_cache import KEY, TrunkCache
from gslora_mm.utils.tensor_store import TensorStore
from .stopwatch import Stopwatch

FORWARD, FULL = 'forward pass', 'full fine-tuning'
ADAPTER, AMP = 'adapter', 'adapter --amp'
#: With what is frozen computed once, as ``schedule.cache`` has it.
CACHED, DECODER = 'adapter, cached', 'decoder, cached'
#: In mixed precision.
FULL_AMP, CACHED_AMP = 'full --amp', 'adapter, cached --amp'


def variants_of(cfg: Config, amp: bool) -> tuple[str, ...]:
    """What is measured of a model, in this order.

    Args:
        cfg (Config): The sequence.
        amp (bool): Whether training is measured in mixed precision, too.
    """
    detects = TASKS.build(task_config(cfg)).unit == 'object'
    cached = (CACHED, DECODER) if detects else ()
    mixed = (FULL_AMP, AMP, *(CACHED_AMP,) * detects) if amp else ()
    return (FORWARD, FULL, ADAPTER, *cached, *mixed)


def task_config(cfg: Config) -> dict:
    return complete_task_config(cfg.get('task'), cfg.get('default_scope'))


def with_defaults(args: argparse.Namespace, cfg: Config) -> None:
    """Fill in what depends on the kind of model."""
    classifies = TASKS.build(task_config(cfg)).unit == 'image'
    own_size = cfg.model.backbone.get('img_size', 224) if classifies else 384
    args.size = args.size or own_size
    args.images = args.images or (48 if classifies else 4)
    args.amp = classifies if args.amp is None else args.amp


def make_images(args: argparse.Namespace) -> tuple[list, list[dict]]:
    """Random images, and what mmdet and mmpretrain record of each."""
    rng = np.random.default_rng(0)
    shape = (3, args.size, args.size)
    inputs, metainfos = [], []
    for i in range(args.images):
        inputs.append(torch.from_numpy(rng.integers(0, 256, shape, np.uint8)))
        metainfos.append(
            dict(
                img_id=i,
                img_shape=shape[1:],
                ori_shape=shape[1:],
                batch_input_shape=shape[1:],
                scale_factor=(1.0, 1.0),
                role='forget' if i < args.images // 2 else 'retain',
                **{KEY: (i, 0)},
            )
        )
    return inputs, metainfos


def image_batch(args: argparse.Namespace, num_classes: int) -> dict:
    """Random images, each of some class, the first half to forget."""
    from mmpretrain.structures import DataSample

    inputs, metainfos = make_images(args)
    samples = [
        DataSample(metainfo=metainfo).set_gt_label(i % num_classes)
        for i, metainfo in enumerate(metainfos)
    ]
    return dict(inputs=inputs, data_samples=samples)


def object_batch(args: argparse.Namespace, num_classes: int) -> dict:
    """Random images with boxes, the first half to forget."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(1)
    inputs, metainfos = make_images(args)
    samples = []
    for metainfo in metainfos:
        corners = rng.uniform(0, args.size * 0.6, (args.objects, 2))
        sides = rng.uniform(8, args.size * 0.4, (args.objects, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        labels = rng.integers(0, num_classes, args.objects)
        sample = DetDataSample(
            gt_instances=InstanceData(
                bboxes=torch.from_numpy(boxes).float(),
                labels=torch.from_numpy(labels),
            ),
            metainfo=metainfo,
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


#: What makes a batch of random images, by what the rows of a task are.
BATCHES = {'image': image_batch, 'object': object_batch}


def make_step(
    variant: str,
    cfg: Config,
    args: argparse.Namespace,
    watch: Stopwatch | None = None,
) -> tuple[Callable[[], None], nn.Module]:
    """One iteration of a variant on random images, as a function.

    Args:
        variant (str): One of those above.
        cfg (Config): The sequence.
        args (argparse.Namespace): With ``images``, ``size`` and, for a
            detector, ``objects``.
        watch (Stopwatch, optional): Counts the parts of an iteration.

    Returns:
        tuple[Callable[[], None], nn.Module]: The iteration and its model.
    """
    torch.manual_seed(0)
    model_cfg = ConfigDict(cfg.model.to_dict())
    if cfg.get('data_preprocessor'):  # as mmpretrain's configs have it
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    if variant in (FORWARD, FULL, FULL_AMP):
        model = build_stock_model(model_cfg)
        optim_cfg = cfg.get('optim_wrapper') or cfg.schedule.optim_wrapper
    else:
        method = {k: v for k, v in cfg.method.items() if k == 'type'}
        adapter = cfg.adapter
        if variant == DECODER:
            adapter = ConfigDict({**adapter, 'within': 'decoder'})
        model = ForgettingModel(model_cfg, task_config(cfg), method, adapter)
        optim_cfg = cfg.schedule.optim_wrapper
    if variant in (AMP, FULL_AMP, CACHED_AMP):
        optim_cfg = enable_amp(optim_cfg)
    for name, weight in model.named_parameters():
        # mmdet leaves it to init_weights, which would fetch a backbone; until
        # then it is what was in memory.
        if name.endswith('level_embed'):
            nn.init.normal_(weight)
    model = model.to('cuda' if torch.cuda.is_available() else 'cpu')
    model.train(variant != FORWARD)
    if variant in (CACHED, DECODER, CACHED_AMP):
        model.trunk_cache = TrunkCache(model, TensorStore(2**40))
    optim_wrapper = build_optim_wrapper(model, optim_cfg)
    task = TASKS.build(task_config(cfg))
    num_classes = task.num_classes(getattr(model, 'model', model))
    if task.unit not in BATCHES:
        sys.exit(f'{type(task).__name__}: there are no random {task.unit}s')
    batch = BATCHES[task.unit](args, num_classes)

    watch = watch or Stopwatch()
    watch.watch_model(model)

    def step() -> None:
        with watch.watching_training(), watch.part('other'):
            if variant == FORWARD:
                with torch.no_grad(), watch.part('head and loss'):
                    data = model.data_preprocessor(batch, training=False)
                    model(**data, mode='tensor')
            else:
                model.train_step(batch, optim_wrapper)

    return step, model


def measure(
    steps: dict[str, Callable[[], None]], watch: Stopwatch, iterations: int
) -> dict[str, list[dict[str, float]]]:
    """Run variants in turn, so that the machine's other work falls on all.

    Args:
        steps (dict[str, Callable[[], None]]): By name, one iteration each.
        watch (Stopwatch): Counts their parts.
        iterations (int): How many, after one to warm up.

    Returns:
        dict[str, list[dict[str, float]]]: By name, the seconds of the parts
        and of the ``whole`` of each iteration.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for i in range(iterations + 1):
        for name, step in steps.items():
            watch.take()
            step()
            seconds = watch.take()
            if i:
                seconds['whole'] = sum(seconds.values())
                found[name].append(seconds)
            gc.collect()
    return found


def save_trace(step: Callable[[], None], path: str) -> None:
    """Profile one iteration, for Chrome (chrome://tracing) or Perfetto."""
    with profile() as found:  # of the CPU, and of the GPU if there is one
        step()
    found.export_chrome_trace(path)
