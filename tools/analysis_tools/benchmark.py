"""Measure what forgetting with an adapter costs next to full fine-tuning.

One process measures everything on the same images, iteration by iteration in
turn, so that whatever else the machine does falls on all alike; ratios of
medians are reported. Without a config it measures the full-size
Deformable-DETR R50 on four images of 384 x 384; a classifier is measured on
48 images of the size that its backbone is made for, and with mixed precision
as well. With ``--run`` it compares the steps of a finished run instead:
seconds of an iteration and of the one evaluation, both relative to the first
step.
"""

import argparse
import gc
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper

from gslora_mm.models import build_stock_model
from gslora_mm.registry import TASKS, init_scope
from gslora_mm.tasks import complete_task_config
from gslora_mm.training import ForgettingModel, enable_amp
from gslora_mm.utils import load_json, save_json
from gslora_mm.utils.memory import peak_memory_mb, reset_peak_memory
from gslora_mm.utils.quiet import hush

DEFAULT = (
    os.path.dirname(__file__) + '/../../configs/deformable_detr/'
    'gs-lora_deformable-detr_r50_coco_7x10.py'
)
FULL, ADAPTER, AMP = 'full fine-tuning', 'adapter', 'adapter --amp'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'config',
        nargs='?',
        default=DEFAULT,
        help='config of a sequence; default: Deformable-DETR R50 on COCO',
    )
    parser.add_argument(
        '--images',
        type=int,
        help='images in a batch; default: 4, for a classifier 48',
    )
    parser.add_argument(
        '--size',
        type=int,
        help='height and width of an image in pixels; default: 384, for a '
        'classifier the size that its backbone is made for',
    )
    parser.add_argument(
        '--objects',
        type=int,
        default=5,
        help='objects in each image, for a detector; default: 5',
    )
    parser.add_argument(
        '--iters',
        type=int,
        default=5,
        help='iterations that are measured, after one to warm up; default: 5',
    )
    parser.add_argument(
        '--threads', type=int, help="CPU threads; default: PyTorch's choice"
    )
    parser.add_argument(
        '--amp',
        action=argparse.BooleanOptionalAction,
        help='measure the adapter with mixed precision, too; default: only '
        'for classifiers',
    )
    parser.add_argument('--out', help='JSON file for the figures')
    parser.add_argument('--run', help='work dir of a finished sequence')
    parser.add_argument('--memory-of', help=argparse.SUPPRESS)
    return parser.parse_args()


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
    variant: str, cfg: Config, args: argparse.Namespace
) -> tuple[Callable[[], None], torch.nn.Module]:
    """One training iteration of a variant, as a function."""
    torch.manual_seed(0)
    model_cfg = ConfigDict(cfg.model.to_dict())
    if cfg.get('data_preprocessor'):  # as mmpretrain's configs have it
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    if variant == FULL:
        model = build_stock_model(model_cfg)
        optim_cfg = cfg.get('optim_wrapper') or cfg.schedule.optim_wrapper
    else:
        method = {k: v for k, v in cfg.method.items() if k == 'type'}
        model = ForgettingModel(
            model_cfg, task_config(cfg), method, cfg.adapter
        )
        optim_cfg = cfg.schedule.optim_wrapper
    if variant == AMP:
        optim_cfg = enable_amp(optim_cfg)
    model = model.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    optim_wrapper = build_optim_wrapper(model, optim_cfg)
    task = TASKS.build(task_config(cfg))
    num_classes = task.num_classes(model if variant == FULL else model.model)
    if task.unit not in BATCHES:
        sys.exit(f'{type(task).__name__}: there are no random {task.unit}s')
    batch = BATCHES[task.unit](args, num_classes)

    def step() -> None:
        model.train_step(batch, optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return step, model


def timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure_memory(variant: str, cfg: Config, args: argparse.Namespace):
    """Peak of one variant alone, printed for the parent process."""
    step, _ = make_step(variant, cfg, args)
    reset_peak_memory()
    for _ in range(2):
        step()
    print(f'peak {peak_memory_mb()}')


def peak_of(variant: str) -> int:
    """Peak of one variant, measured in a process of its own."""
    command = [sys.executable, *sys.argv, '--memory-of', variant]
    out = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout
    return int(out.split('peak ')[-1])


def compare_steps(work_dir: str) -> None:
    """Print what every step of a run cost, relative to the first one."""
    report = load_json(os.path.join(work_dir, 'report.json'))
    steps = report['steps']
    speeds = [step['train_seconds'] / step['iterations'] for step in steps]
    evaluation = report['pretrained']['eval_seconds']
    print(
        f'{"step":<6}{"s/iter":>9}{"ratio":>8}{"eval s":>9}'
        f'{"/ pre-trained":>15}{"peak MiB":>10}'
    )
    for step, speed in zip(steps, speeds, strict=True):
        print(
            f'{step["step"]:<6}{speed:>9.3f}{speed / speeds[0]:>8.3f}'
            f'{step["eval_seconds"]:>9.1f}'
            f'{step["eval_seconds"] / evaluation:>15.3f}'
            f'{step["peak_memory_mb"]:>10}'
        )


def main() -> None:
    hush()
    logging.disable(logging.INFO)  # a line per parameter
    args = parse_args()
    if args.run:
        compare_steps(args.run)
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = Config.fromfile(args.config)
    init_scope(cfg)
    with_defaults(args, cfg)
    if args.memory_of:
        measure_memory(args.memory_of, cfg, args)
        return

    variants = (FULL, ADAPTER, AMP) if args.amp else (FULL, ADAPTER)
    memory = {variant: peak_of(variant) for variant in variants}
    steps = {variant: make_step(variant, cfg, args) for variant in variants}
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for i in range(args.iters + 1):
        for variant, (step, _) in steps.items():
            elapsed = timed(step)
            if i:  # the first warms up
                seconds[variant].append(elapsed)
            gc.collect()
    model = steps[ADAPTER][1]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in steps[FULL][1].parameters())
    report(args, seconds, memory, trainable, total, len(model.groups))


def report(args, seconds, memory, trainable, total, groups) -> None:
    """Print the table, and write it if asked to."""
    median = {name: statistics.median(v) for name, v in seconds.items()}
    figures = dict(
        images=args.images,
        size=args.size,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else 'cpu',
        seconds=seconds,
        median_seconds=median,
        time_ratio=median[ADAPTER] / median[FULL],
        peak_memory_mb=memory,
        memory_ratio=memory[ADAPTER] / memory[FULL],
        trainable_parameters=trainable,
        total_parameters=total,
        groups=groups,
    )
    if AMP in median:
        figures['amp_speedup'] = median[ADAPTER] / median[AMP]
    print(
        f'{args.images} images of {args.size} x {args.size}, '
        f'{figures["device"]}, {figures["threads"]} threads, '
        f'median of {args.iters} iterations'
    )
    print(
        f'{"":<18}{"s/iter":>9}{"min":>9}{"max":>9}{"/ full":>8}'
        f'{"peak MiB":>10}{"/ full":>8}'
    )
    for name in median:
        print(
            f'{name:<18}{median[name]:>9.3f}{min(seconds[name]):>9.3f}'
            f'{max(seconds[name]):>9.3f}{median[name] / median[FULL]:>8.3f}'
            f'{memory[name]:>10}{memory[name] / memory[FULL]:>8.3f}'
        )
    if AMP in median:
        print(
            f'mixed precision: {figures["amp_speedup"]:.2f} times as fast as '
            'float32'
        )
    print(
        f'trainable: {trainable:,} of {total:,} parameters in {groups} groups'
    )
    if args.out:
        save_json(figures, args.out)


if __name__ == '__main__':
    main()
