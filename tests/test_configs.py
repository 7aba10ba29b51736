"""Every config runs: two iterations and an evaluation on generated data."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from PIL import Image

from gslora_mm.datasets import class_order
from gslora_mm.datasets.imagenet_100 import IMAGENET_100
from gslora_mm.entries import MethodEntry, build_all, read_entries
from gslora_mm.lora import inject_lora, lora_groups
from gslora_mm.registry import METHODS
from gslora_mm.sequence import (
    ForgettingPlan,
    ForgettingSequence,
    check_sequence,
)
from gslora_mm.toy_data import (
    make_mini_coco,
    make_mini_digits,
    make_mini_faces,
)
from gslora_mm.utils import load_json
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from gslora_mm.utils.face_pairs import face_pairs, list_images, save_pairs
from tests.fashion_files import make_packed
from tests.test_tools.helpers import load_tool

CONFIGS = Path(__file__).parent.parent / 'configs'
NAMES_OF_SEQUENCES = ('gs-lora', 'knowledge-swapping', 'masked-')
SEQUENCES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and path.name.startswith(NAMES_OF_SEQUENCES)
)
PRETRAINING = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if not {'_base_', 'ablations', 'benchmarks'} & set(path.parts)
    and not path.name.startswith(NAMES_OF_SEQUENCES)
)
SIZE = 128
#: Trainable parameters and groups, by folder.
ADAPTERS = dict(
    deformable_detr=(245_760, 12),
    dino=(442_368, 12),
    face_transformer=(245_760, 6),
    vit=(737_280, 12),
)


def make_coco(root: Path, num_images: int = 33) -> None:
    """All 80 categories of COCO in every image, in COCO's own layout."""
    names = CocoDataset.METAINFO['classes']
    ids = [i for i in range(1, 91) if i not in
           (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # fmt: skip
    rng = np.random.default_rng(0)
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        images, annotations = [], []
        for i in range(num_images if split == 'train2017' else 2):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            name = f'{i:012d}.jpg'
            Image.fromarray(pixels).save(root / split / name)
            images.append(
                dict(id=i + 1, file_name=name, height=SIZE, width=SIZE)
            )
            for place, category in enumerate(rng.permutation(ids)):
                row, column = divmod(place, 9)
                box = [column * 14, row * 14, 12, 12]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i + 1,
                        category_id=int(category),
                        bbox=box,
                        area=144,
                        iscrowd=0,
                    )
                )
        content = dict(
            images=images,
            annotations=annotations,
            categories=[
                dict(id=i, name=name)
                for i, name in zip(ids, names, strict=True)
            ],
        )
        path = root / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(content))


def make_folders(root: Path, counts: dict[str, int], size: int) -> None:
    """Images of noise, some in each folder."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f'{i:04d}.JPEG')


def make_casia(root: Path) -> None:
    """CASIA-100 in its own layout, a few faces of each person."""
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/casia_100.py')
    classes = cfg.metainfo.classes
    make_folders(root / 'train', dict.fromkeys(classes, 4), 112)
    make_folders(root / 'test', dict.fromkeys(classes, 2), 112)
    images = list_images(root / 'test')
    # of those who are tested here, see `load`
    tested = {name: images[name] for name in sorted(images)[::10]}
    save_pairs(face_pairs(tested), root / 'pairs.txt')


def make_imagenet(root: Path) -> None:
    """ImageNet in its own layout, an image or two of each class."""
    make_folders(root / 'train', dict.fromkeys(IMAGENET_100, 2), 256)
    # Folders of 900 other classes, so named that the labels are right.
    names = {label: name for name, label in IMAGENET_100.items()}
    last = 'n00000000'
    for label in range(1000):
        last = names.setdefault(label, f'{last}_')
    make_folders(root / 'val', dict.fromkeys(names.values(), 1), 64)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_coco(root / 'coco')
    make_mini_coco(
        root / 'mini_coco', num_train=200, num_val=4, num_tune=0, num_test=0
    )
    make_mini_digits(
        root / 'mini_digits',
        train_copies=1,
        val_copies=1,
        max_scans=200,
        tune_copies=0,
        test_copies=0,
    )
    make_mini_faces(
        root / 'mini_faces',
        num_train=8,
        num_val=2,
        num_pairs=1,
        num_tune=0,
        num_test=0,
    )
    tool = load_tool('dataset_tools/prepare_fashion_mnist')
    tool.prepare(root / 'fashion_mnist', make_packed(root / 'packed'))
    make_casia(root / 'casia_100')
    make_imagenet(root / 'imagenet')
    return root


def shrink(entry, size):
    """Make the pipelines resize to a small size."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key == 'scales':
                entry[key] = [(size, size)]
            elif key == 'scale':
                entry[key] = (size, size)
            elif key == 'crop_size':
                entry[key] = (96, 96)
            else:
                shrink(value, size)
    elif isinstance(entry, list):
        for value in entry:
            shrink(value, size)


def load(name: str, data: Path, tmp_path: Path) -> Config:
    """A config of the project, on generated data."""
    cfg = Config.fromfile(CONFIGS / name)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[loader].dataset
        while 'dataset' in dataset:  # of a ClassSubset
            dataset = dataset.dataset
        root = data / Path(dataset.data_root).name
        dataset.data_root = f'{root}/'
        cfg[loader].batch_size = min(cfg[loader].batch_size, 8)
        cfg[loader].num_workers = 0
        cfg[loader].persistent_workers = False
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = cfg[key] if isinstance(cfg[key], list) else [cfg[key]]
        for metric in metrics:
            if 'ann_file' in metric:
                path = root / 'annotations' / Path(metric.ann_file).name
                metric.ann_file = str(path)
            if 'pairs' in metric:
                metric.pairs = str(root / Path(metric.pairs).name)
    if cfg.default_scope == 'mmdet':
        # DINO chooses 900 of the encoder's tokens.
        shrink(cfg._cfg_dict, 2 * SIZE if name.startswith('dino') else SIZE)
    elif not name.startswith('mini'):
        # Images of every tenth person, or fiftieth class.
        tested = (
            range(0, 1000, 50)
            if name.startswith('vit')
            else [i for i in range(200) if i // 2 % 10 == 0]
        )
        for loader in ('val_dataloader', 'test_dataloader'):
            cfg[loader].dataset.indices = list(tested)
    # Of a LoRA config, the stock model is within the model.
    cfg.model.get('model', cfg.model).backbone.init_cfg = None
    cfg.load_from = None
    cfg.work_dir = str(tmp_path / 'run')
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('name', SEQUENCES)
def test_sequence(name, data, tmp_path):
    cfg = load(name, data, tmp_path)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model.to_dict())
    logging.disable(logging.INFO)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    for module in model.modules():
        # Rows of a trained class layer differ; those of a new one are zero.
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.02)
    cfg.forgetting.pretrained = str(tmp_path / 'stock.pth')
    save_stock_checkpoint(model, {}, cfg.forgetting.pretrained)

    checked = check_sequence(cfg)
    if cfg.default_scope == 'mmpretrain':
        # Prototypes of a few images, and of each once.
        cfg.forgetting.update(retain_share=None, forget_share=None, shots=1)
        if 'prototype_passes' in cfg.method:
            cfg.method.prototype_passes = 1
    # One step of what the whole config has been checked for.
    cfg.forgetting.steps = [list(checked.plan.steps[0])]
    if checked.plan.learn:
        cfg.forgetting.learn = [list(checked.plan.learn[0])]
    for key, value in cfg.method.items():
        if isinstance(value, list):
            cfg.method[key] = value[0]
    cfg.schedule.max_epochs = None
    cfg.schedule.max_iters = 2
    cfg.schedule.batch_size = 2
    report = ForgettingSequence(cfg).run()
    (step,) = report['steps']
    assert step['iterations'] == 2
    assert step['retain_score'] is not None
    if not name.startswith('mini'):
        found = step['trainable_parameters'], len(step['groups'])
        assert found == ADAPTERS[Path(name).parts[0]]
    if 'pairs' in str(cfg.val_evaluator):
        metrics = load_json(tmp_path / 'run' / 'step_01' / 'metrics.json')
        # Of a split with few people there need not be pairs of both kinds.
        assert metrics['metrics']['verification_auc'] is not None
        assert 'retain/verification_auc' in metrics['metrics']
    merged = torch.load(tmp_path / 'run' / 'step_01' / 'merged.pth')
    assert list(merged['state_dict']) == list(model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize('name', PRETRAINING)
def test_pretraining(name, data, tmp_path):
    cfg = load(name, data, tmp_path)
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=2, val_interval=2
    )
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=2
    )
    cfg.runner_type = 'gslora_mm.Runner'
    RUNNERS.build(cfg).train()
    assert (tmp_path / 'run' / cfg.custom_hooks[-1].filename).is_file()


def test_size_of_the_face_transformer():
    """The papers' 19.16 M, counted part by part."""
    cfg = Config.fromfile(CONFIGS / '_base_/models/face_transformer.py')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    width, mlp, patch = 512, 2048, 3 * 8 * 8
    block = (
        4 * width  # two norms
        + 3 * width * width  # queries, keys, values: no bias
        + width * (width + 1)  # projection
        + mlp * (width + 1)
        + width * (mlp + 1)
    )
    expected = (
        width * (patch + 1)  # patches
        + width * (1 + 1 + 14 * 14)  # class token, positions
        + 6 * block
        + 2 * width  # last norm
        + 100 * width  # class weights
    )
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == expected == 19_157_504
    inject_lora(model)
    groups = lora_groups(model)
    assert len(groups) == 6
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == 245_760
    assert {sum(p.numel() for p in g) for g in groups.values()} == {40_960}


def plan_of(cfg, classes):
    return ForgettingPlan.make(read_entries(cfg).forgetting, classes)


def test_steps_on_a_hundred_classes():
    """Order as in the papers' code, kept in every setting."""
    name = 'face_transformer/gs-lora-pp_face-transformer_casia-100_{}.py'
    classes = Config.fromfile(CONFIGS / name.format('4x20')).metainfo.classes
    assert list(classes) == sorted(classes) and len(classes) == 100
    order = class_order(classes, 1337, 'python')
    for setting in ('4x20', '4x20_4shot', '4x20_missing'):
        cfg = Config.fromfile(CONFIGS / name.format(setting))
        plan = plan_of(cfg, classes)
        for t in range(4):
            assert list(plan.steps[t]) == order[80 - 20 * t : 100 - 20 * t]
    assert list(plan.missing) == order[:5]
    for count in (5, 10, 50, 90):
        cfg = Config.fromfile(CONFIGS / name.format(f'{100 - count}-{count}'))
        plan = plan_of(cfg, classes)
        assert [list(names) for names in plan.steps] == [order[-count:]]


@pytest.mark.parametrize(
    'name', [name for name in SEQUENCES if name.startswith(('face', 'vit'))]
)
def test_settings_of_the_papers(name):
    """Config and method can be built for each of their steps."""
    cfg = Config.fromfile(CONFIGS / name)
    steps = cfg.forgetting.steps.num_steps
    for step in range(1, steps + 1):
        METHODS.build(MethodEntry(cfg.method).for_step(step, steps))
    assert cfg.method.bound == 105.0
    assert cfg.method.type == (
        'gslora_mm.GSLoRAPP' if 'lora-pp' in name else 'gslora_mm.GSLoRA'
    )
    assert cfg.schedule.max_epochs == 100
    assert cfg.schedule.batch_size == (8 if '4shot' in name else 96)


@pytest.mark.parametrize('level', ['behaviour', 'features', 'weights'])
def test_a_level_is_one_line(level):
    folders = 'mini/vit_mini-digits', '_base_/sequences/mini_digits_3x2'
    bases = [f'{CONFIGS}/{name}.py' for name in folders]
    bases.append(f'{CONFIGS}/_base_/levels/{level}.py')
    cfg = Config.fromstring(f'_base_ = {bases!r}', '.py')
    entries = read_entries(cfg)
    assert entries.method.cls.level == level
    build_all(entries, 3)
