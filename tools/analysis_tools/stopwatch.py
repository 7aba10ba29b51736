"""Time the way of a sequence, part by part, from its start to its report.

First iterations on random images, in turn, so that whatever else the machine
does falls on all alike: a forward pass (the floor), full fine-tuning, and
forgetting with the adapter - for a detector also with the trunk's output
cached, and with an adapter in the decoder alone and the encoder's output
cached; medians are reported. This needs neither data nor weights. Without a
config it measures the full-size Deformable-DETR R50 on
four images of 384 x 384; a classifier is measured on 48 images of the size
that its backbone is made for, and with mixed precision as well.

Then the sequence itself, shortened, in a folder that is removed: ``--steps``
and ``--iterations``. Where it cannot run, there are dashes and the reason.

With ``--run`` it compares the steps of a finished run instead: seconds of an
iteration and of the one evaluation, both relative to the first step.
"""

import time

BEGIN = time.perf_counter()  # before what takes its time

import argparse  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402

from gslora_mm.utils import load_json, save_json  # noqa: E402
from gslora_mm.utils.command_line import DictAction, imports  # noqa: E402

DEFAULT = (
    os.path.dirname(__file__) + '/../../configs/deformable_detr/'
    'gs-lora_deformable-detr_r50_coco_7x10.py'
)


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
        help='iterations on random images, after one to warm up; default: 5',
    )
    parser.add_argument(
        '--steps',
        type=int,
        default=1,
        help='steps of the sequence itself; 0: none; default: 1',
    )
    parser.add_argument(
        '--iterations',
        type=int,
        default=20,
        help='iterations of each of its steps; default: 20',
    )
    parser.add_argument(
        '--threads', type=int, help="CPU threads; default: PyTorch's choice"
    )
    parser.add_argument(
        '--amp',
        action=argparse.BooleanOptionalAction,
        help='measure training with mixed precision, too (bfloat16 on a CPU, '
        'float16 on a GPU); default: only for classifiers',
    )
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='seconds of CPU time of this process, where other jobs share '
        'the cores; default: wall-clock time',
    )
    parser.add_argument(
        '--memory',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='measure the peak of each kind of iteration as well, in a '
        'process of its own',
    )
    parser.add_argument('--out', help='JSON file for the figures')
    parser.add_argument(
        '--trace',
        metavar='FILE.json',
        help='profile of one iteration with the adapter, to be opened in '
        'Chrome (chrome://tracing)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that override those of the config, for example '
        'forgetting.pretrained=model.pth',
    )
    parser.add_argument('--run', help='work dir of a finished sequence')
    parser.add_argument('--memory-of', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.images is not None and args.images < 2:
        parser.error(f'--images {args.images}: at least 2, one for each half')
    return args


with imports(__name__, parse_args):
    import mmdet.datasets  # noqa: F401  (greets on import)
    import torch
    from mmengine.config import Config

    from gslora_mm.bench.iterations import (
        ADAPTER,
        AMP,
        FORWARD,
        FULL,
        make_step,
        measure,
        save_trace,
        variants_of,
        with_defaults,
    )
    from gslora_mm.bench.stopwatch import Stopwatch
    from gslora_mm.bench.whole_way import (
        iteration_table,
        time_sequence,
        whole_table,
    )
    from gslora_mm.registry import init_scope
    from gslora_mm.utils.memory import peak_memory_mb, reset_peak_memory


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
    logging.disable(logging.WARNING)  # a line per parameter
    args = parse_args()
    if args.run:
        compare_steps(args.run)
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    init_scope(cfg)
    start = time.process_time()
    if not args.cpu_time:
        start = time.perf_counter() - BEGIN
    with_defaults(args, cfg)
    if args.memory_of:
        measure_memory(args.memory_of, cfg, args)
        return

    variants = variants_of(cfg, args.amp)
    memory = {}
    if args.memory:
        memory = {variant: peak_of(variant) for variant in variants}
    clock = time.process_time if args.cpu_time else None
    watch = Stopwatch(clock)
    built = {name: make_step(name, cfg, args, watch) for name in variants}
    steps = {name: step for name, (step, _) in built.items()}
    found = measure(steps, watch, args.iters)
    if args.trace:
        save_trace(steps[ADAPTER], args.trace)
    model = built[ADAPTER][1]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in built[FULL][1].parameters())
    groups = len(model.groups)
    del built, steps, model
    run = dict(reason='--steps 0')
    if args.steps:
        run = time_sequence(cfg, args.steps, args.iterations, start, clock)
    report(args, found, memory, trainable, total, groups, run)


def report(args, found, memory, trainable, total, groups, run) -> None:
    """Print the tables, and write the figures if asked to."""
    seconds = {
        name: [parts['whole'] for parts in rounds]
        for name, rounds in found.items()
    }
    parts = {
        name: {
            part: statistics.median(each.get(part, 0.0) for each in rounds)
            for part in {part for each in rounds for part in each}
        }
        for name, rounds in found.items()
    }
    median = {name: statistics.median(v) for name, v in seconds.items()}
    figures = dict(
        config=args.config,
        images=args.images,
        size=args.size,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else 'cpu',
        seconds=seconds,
        clock='CPU' if args.cpu_time else 'wall',
        median_seconds=median,
        median_parts=parts,
        time_ratio=median[ADAPTER] / median[FULL],
        forward_ratio=median[ADAPTER] / median[FORWARD],
        peak_memory_mb=memory,
        memory_ratio=memory[ADAPTER] / memory[FULL] if memory else None,
        trainable_parameters=trainable,
        total_parameters=total,
        groups=groups,
        whole_way=run,
    )
    if AMP in median:
        figures['amp_speedup'] = median[ADAPTER] / median[AMP]
    print(
        f'{args.images} images of {args.size} x {args.size}, '
        f'{figures["device"]}, {figures["threads"]} threads, '
        f'median of {args.iters} iterations, seconds of '
        f'{"CPU" if args.cpu_time else "wall-clock"} time\n'
    )
    print(iteration_table(parts))
    print(
        f'\n{"":<22}{"s/iter":>9}{"min":>9}{"max":>9}{"/ full":>8}'
        f'{"/ forward":>11}{"peak MiB":>10}{"/ full":>8}'
    )
    for name in median:
        peak = ''
        if memory:
            peak = f'{memory[name]:>10}{memory[name] / memory[FULL]:>8.3f}'
        print(
            f'{name:<22}{median[name]:>9.3f}{min(seconds[name]):>9.3f}'
            f'{max(seconds[name]):>9.3f}{median[name] / median[FULL]:>8.3f}'
            f'{median[name] / median[FORWARD]:>11.3f}{peak}'
        )
    if AMP in median:
        dtype = 'float16' if torch.cuda.is_available() else 'bfloat16'
        print(
            f'mixed precision ({dtype}): {figures["amp_speedup"]:.2f} times '
            'as fast as float32'
        )
    print(
        f'trainable: {trainable:,} of {total:,} parameters in {groups} '
        'groups\n'
    )
    if 'reason' in run:
        print(f'the sequence itself: not measured ({run["reason"]})\n')
    else:
        print(
            f'the sequence itself: {run["steps"]} steps, '
            f'{run["iterations"]} iterations in all\n'
        )
    if args.steps:
        print(whole_table(run))
    if args.out:
        save_json(figures, args.out)


if __name__ == '__main__':
    main()
