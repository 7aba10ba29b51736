"""Measure what annotations of any size cost a sequence of erasures.

Annotations are drawn at random. Compared with mmdet's ``CocoDataset``, which
reads those of the training set once, are all checks before training, and all
reading of a sequence: checks, then data sets and evaluators of the first
evaluation and of every step, built from the very configs that run. Every
measurement is made in a process of its own, the kinds in turn; ratios are of
medians of CPU time. The defaults are a tenth of COCO. With --detections, the
evaluation of random detections for the splits of all steps is measured next
to that of mmdet's ``CocoMetric``, too, on the training images.
"""

import argparse
import functools
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gslora_mm.utils import save_json
from gslora_mm.utils.command_line import imports
from gslora_mm.utils.quiet import no_prints

CONFIG = Path(__file__).parents[2] / (
    'configs/mini/gs-lora_deformable-detr_mini-coco_3x2.py'
)
#: COCO has 118,287 images to train with and 5,000 to validate.
VALIDATION = 5000 / 118287
MMDET, CHECKS, SEQUENCE = 'mmdet', 'checks', 'sequence'


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('--images', type=int, default=11829)
    parser.add_argument('--boxes', type=int, default=86000)
    parser.add_argument(
        '--classes',
        type=int,
        nargs='+',
        default=[80],
        help='one number or several, for the same boxes; default: 80',
    )
    parser.add_argument('--steps', type=int, default=7)
    parser.add_argument(
        '--detections', type=int, default=0, help='of each image'
    )
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--out', help='JSON file for the figures')
    return parser.parse_args(args)


with imports(__name__, parse_args):
    import numpy as np
    import torch
    from mmengine.config import Config
    from PIL import Image

    from gslora_mm.datasets import ClassOrder
    from gslora_mm.models import build_stock_model
    from gslora_mm.registry import DATASETS, METRICS, init_scope
    from gslora_mm.sequence import ForgettingPlan, check_sequence
    from gslora_mm.sequence.resolve import ResolvedSequence
    from gslora_mm.toy_data.annotations import (
        IMAGE_SIZE,
        class_names,
        make_annotations,
    )
    from gslora_mm.utils.checkpoint import save_stock_checkpoint
    from gslora_mm.utils.memory import peak_memory_mb, reset_peak_memory
    from gslora_mm.utils.sharing import read_once
    from gslora_mm.utils.tables import markdown_table


def make_sequence(
    folder: Path, args: argparse.Namespace, classes: int
) -> Config:
    """Write annotations, images and a model; the sequence that reads them."""
    cfg = Config.fromfile(CONFIG)
    init_scope(cfg)
    names = class_names(classes)
    few = max(1, round(args.images * VALIDATION))
    numbers = dict(train=args.images, val=few)
    for seed, (portion, images) in enumerate(numbers.items()):
        boxes = round(args.boxes * images / args.images)
        path = folder / f'{portion}.json'
        with path.open('w') as file:
            json.dump(make_annotations(images, boxes, classes, seed), file)
        (folder / portion).mkdir()
        for number in range(images):
            image = folder / portion / f'{number}.jpg'
            # File systems limit the links of one file.
            first = folder / portion / f'{number - number % 10_000}.jpg'
            if image == first:
                Image.new('RGB', IMAGE_SIZE).save(image)
            else:
                os.link(first, image)
        cfg[f'{portion}_dataloader'].dataset.update(
            data_root='',
            ann_file=str(path),
            data_prefix=dict(img=f'{folder / portion}/'),
            metainfo=dict(classes=names),
        )
    cfg.val_evaluator.ann_file = str(folder / 'val.json')
    cfg.model.bbox_head.num_classes = classes
    cfg.work_dir = str(folder / 'run')
    cfg.forgetting = dict(
        pretrained=str(folder / 'pretrained.pth'),
        steps=dict(
            type='gslora_mm.ClassOrder',
            num_steps=args.steps,
            classes_per_step=max(1, classes // (args.steps + 1)),
        ),
        retain_share=0.1,
        forget_share=0.1,
    )
    model = build_stock_model(cfg.model)
    model.init_weights()
    save_stock_checkpoint(
        model, dict(classes=names), folder / 'pretrained.pth'
    )
    return cfg


def build_stock_dataset(cfg: Config) -> None:
    """Read the training set as mmdet alone does."""
    stock = dict(cfg.train_dataloader.dataset, type='mmdet.CocoDataset')
    DATASETS.build(stock)


def read_sequence(cfg: Config) -> None:
    """Check, then build what every step and its evaluation read."""
    with read_once():
        sequence = check_sequence(cfg)
        for config in _configs(sequence):
            if 'train_dataloader' in config:
                DATASETS.build(config.train_dataloader.dataset)
            validation = DATASETS.build(config.val_dataloader.dataset)
            metric = METRICS.build(config.val_evaluator)
            metric.dataset_meta = validation.metainfo


def _configs(sequence: ResolvedSequence) -> Iterator[Config]:
    """Of all that runs, made one after another as a sequence does."""
    yield sequence.pretrained_config()
    yield from map(sequence.step_config, range(1, 1 + len(sequence.plan)))


def make_detections(cfg: Config, count: int) -> list[dict]:
    """Random detections, among them the objects, as mmdet's models give."""
    rng = np.random.default_rng(0)
    dataset = cfg.train_dataloader.dataset
    classes = len(dataset.metainfo.classes)
    truth = json.loads(Path(dataset.ann_file).read_text())
    found = {each['id']: [] for each in truth['images']}
    for each in truth['annotations']:
        row = (*each['bbox'], each['category_id'] - 1)
        found[each['image_id']].append(row)
    samples = []
    for image, rows in found.items():
        extra = np.column_stack(
            [
                rng.uniform(0, 400, (count, 2)),
                rng.uniform(8, 96, (count, 2)),
                rng.integers(0, classes, count),
            ]
        )
        rows = np.vstack([np.reshape(rows, (-1, 5)), extra])[:count]
        rows[:, :4] += rng.uniform(0, 4, (count, 4))
        rows[:, 2:4] += rows[:, :2]
        predicted = dict(
            bboxes=torch.tensor(rows[:, :4], dtype=torch.float32),
            labels=torch.tensor(rows[:, 4], dtype=torch.long),
            scores=torch.tensor(rng.random(count), dtype=torch.float32),
        )
        samples.append(
            dict(
                img_id=image,
                ori_shape=IMAGE_SIZE[::-1],
                pred_instances=predicted,
            )
        )
    return samples


def evaluators(cfg: Config) -> dict[str, dict]:
    """Configs of the metrics that are compared."""
    dataset = cfg.train_dataloader.dataset
    names = list(dataset.metainfo.classes)
    settings = {k: v for k, v in cfg.forgetting.steps.items() if k != 'type'}
    requests = ClassOrder(**settings).steps(names)
    plan = ForgettingPlan(tuple(names), tuple(map(tuple, requests)))
    stock = dict(type='mmdet.CocoMetric', ann_file=dataset.ann_file)
    own = {
        **stock,
        'type': 'gslora_mm.ForgettingCocoMetric',
        'splits': plan.all_splits(),
        'by_name': True,
    }
    return {
        'evaluation by mmdet': stock,
        'evaluation, all splits': own,
        'evaluation, own images': {**own, 'only_split_images': True},
    }


def evaluate(evaluator: dict, samples: list[dict], cfg: Config) -> float:
    """Evaluate; the CPU seconds of it, without reading annotations."""
    metric = METRICS.build(evaluator)
    metric.dataset_meta = dict(cfg.train_dataloader.dataset.metainfo)
    metric.process({}, samples)
    start = time.process_time()
    metric.evaluate(len(samples))
    return time.process_time() - start


KINDS = {
    MMDET: build_stock_dataset,
    CHECKS: check_sequence,
    SEQUENCE: read_sequence,
}


def measure(function: Callable[[Config], object], cfg: Config) -> dict:
    """Seconds and MiB at the peak of a call, in a process of its own."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, function, cfg))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _measured(sender, function: Callable, cfg: Config) -> None:
    torch.set_num_threads(1)
    reset_peak_memory()
    start, cpu = time.perf_counter(), time.process_time()
    with no_prints():
        own = function(cfg)
    seconds = time.process_time() - cpu
    if isinstance(own, float):  # it has a clock of its own
        seconds = own
    wall = time.perf_counter() - start
    sender.send(dict(seconds=seconds, wall=wall, peak_mb=peak_memory_mb()))


def benchmark(args: argparse.Namespace, classes: int) -> dict[str, dict]:
    """Figures of each kind, for one number of classes."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = make_sequence(Path(folder), args, classes)
        kinds = dict(KINDS)
        if args.detections:
            samples = make_detections(cfg, args.detections)
            for kind, evaluator in evaluators(cfg).items():
                kinds[kind] = functools.partial(evaluate, evaluator, samples)
        found: dict[str, list] = {kind: [] for kind in kinds}
        for _ in range(args.repeats):
            for kind, function in kinds.items():
                found[kind].append(measure(function, cfg))
    return {
        kind: dict(
            seconds=[each['seconds'] for each in each_time],
            wall=[each['wall'] for each in each_time],
            median=statistics.median(each['seconds'] for each in each_time),
            peak_mb=max(each['peak_mb'] for each in each_time),
        )
        for kind, each_time in found.items()
    }


def _reference(kind: str) -> str:
    """What mmdet does in place of it."""
    return 'evaluation by mmdet' if kind.startswith('evaluation') else MMDET


def table(results: dict[int, dict[str, dict]]) -> str:
    """All figures, one line for a number of classes and a kind."""
    first = next(iter(results.values()))
    return markdown_table(
        ['classes', 'what', 'CPU seconds', '/ mmdet', '/ first', 'peak, MiB'],
        [
            [
                str(classes),
                kind,
                f'{each["median"]:.1f} ({min(each["seconds"]):.1f} to '
                f'{max(each["seconds"]):.1f})',
                f'{each["median"] / kinds[_reference(kind)]["median"]:.2f}',
                f'{each["median"] / first[kind]["median"]:.2f}',
                str(each['peak_mb']),
            ]
            for classes, kinds in results.items()
            for kind, each in kinds.items()
        ],
        left=[1],
    )


def main(args: argparse.Namespace) -> dict[int, dict[str, dict]]:
    logging.disable(logging.WARNING)
    results = {}
    for classes in args.classes:
        results[classes] = benchmark(args, classes)
    print(
        f'{args.images} images, {args.boxes} boxes, {args.steps} steps; '
        f'median of {args.repeats}'
    )
    print(table(results))
    if args.out:
        save_json(dict(settings=vars(args), results=results), args.out)
    return results


if __name__ == '__main__':
    main(parse_args())
