"""Files and configs as people have them, up to the first iteration.

Where a run is refused, the advice is followed once, and the run is none.
"""

import copy
import json
import shutil

import pytest
from mmengine.config import ConfigDict

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.sequence.dry_run import check_sequence
from gslora_mm.utils import ConfigError
from gslora_mm.utils.config_file import read_config
from tests.sequences import tiny_sequence


def annotations(inputs, split='train'):
    """Content of an annotation file of the tiny sequence."""
    path = inputs / f'data/annotations/instances_{split}.json'
    return json.loads(path.read_text())


def with_files(inputs, folder, train=None, val=None, **options):
    """The tiny sequence with other annotation files.

    Args:
        inputs: As for all sequences.
        folder: Gets the files and the work dir.
        train: Changes the content of the training file in place.
        val: The same for the validation file, of the evaluator, too.
        **options: See :func:`tiny_sequence`.
    """
    folder.mkdir(exist_ok=True)
    for split, change in (('train', train), ('val', val)):
        if change is not None:
            content = annotations(inputs, split)
            change(content)
            path = folder / f'{split}.json'
            path.write_text(json.dumps(content))
            options[f'{split}_dataloader__dataset__ann_file'] = str(path)
            if split == 'val':
                options['val_evaluator__ann_file'] = str(path)
    return tiny_sequence(inputs, folder / 'run', **options)


def every(key, change):
    """Change each entry of a list of a file."""

    def of(content):
        for entry in content[key]:
            change(entry)

    return of


def reverse(content):
    content['categories'].reverse()


def messy(content):
    """All at once that can be read."""
    for image in content['images']:
        image['id'] = str(image['id'])
        image['file_name'] = '.\\' + image['file_name']
    for each in content['annotations']:
        del each['area'], each['iscrowd'], each['id']
        each['category_id'] = float(each['category_id'])
        each['bbox'] = list(map(str, each['bbox']))
    content['categories'].insert(
        0, dict(id=0, name='one', supercategory='none')
    )


def test_what_tools_export_gives_the_same_run(inputs, tmp_path):
    def first(cfg):
        report = ForgettingSequence(cfg).run()
        return {
            key: report['steps'][0][key]
            for key in ('per_class', 'groups', 'retain_before')
        }

    options = dict(forgetting__steps=[['one', 'seven']])
    plain = first(tiny_sequence(inputs, tmp_path / 'plain', **options))

    def both(content):
        messy(content)
        reverse(content)

    found = first(with_files(inputs, tmp_path / 'own', both, messy, **options))
    assert found == plain


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (
            every('categories', lambda e: e.update(name=e['name'].upper())),
            'of categories that are none of the classes; its categories are '
            'ZERO, .*; the classes are zero',
        ),
        (
            every('images', lambda each: each.update(width=-1, height=0)),
            'on images whose width or height is 0',
        ),
        (
            every('annotations', lambda each: each.update(iscrowd=1)),
            'of crowds',
        ),
        (
            every(
                'annotations',
                lambda e: e.update(bbox=[v / 99 for v in e['bbox']]),
            ),
            'with boxes in fractions of the image',
        ),
        (
            every('annotations', lambda each: each.update(bbox=[])),
            'without a box',
        ),
        (
            every('annotations', lambda each: each.update(image_id=-1)),
            'of images that are not in `images`',
        ),
        (
            every('annotations', lambda each: each.update(area=0)),
            'whose box is smaller than a pixel, or whose area is 0',
        ),
        (
            every('annotations', lambda e: e.update(bbox=[200, 0, 9, 9])),
            'with boxes outside of their image',
        ),
    ],
)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_every_object_lost(inputs, tmp_path, split, change, reason):
    cfg = with_files(inputs, tmp_path / 'own', **{split: change})
    count = len(annotations(inputs, split)['annotations'])
    with pytest.raises(
        ConfigError,
        match=f'{split}_dataloader.dataset: .*{count} of {count} annotations '
        f'of .*are lost: {count} {reason}',
    ):
        check_sequence(cfg)


def test_a_file_of_the_classes_to_forget_alone(inputs, tmp_path):
    """By names, as the validation file says what the labels are."""

    def keep(content):
        kept = {
            each['id']
            for each in content['categories']
            if each['name'] in ('one', 'three', 'seven')
        }
        for key, field in (
            ('categories', 'id'),
            ('annotations', 'category_id'),
        ):
            content[key] = [e for e in content[key] if e[field] in kept]
        reverse(content)

    cfg = with_files(inputs, tmp_path / 'own', keep)
    expected = tiny_sequence(inputs, tmp_path / 'run')
    cfg.method = expected.method = dict(type='gslora_mm.DELETE')
    found = check_sequence(cfg).images
    assert found == check_sequence(expected).images
    assert all(step['forget'] for step in found)


def test_no_file_has_the_order_of_the_classes(inputs, tmp_path):
    check_sequence(with_files(inputs, tmp_path / 'a', train=reverse))
    check_sequence(with_files(inputs, tmp_path / 'b', val=reverse))
    cfg = with_files(inputs, tmp_path / 'c', reverse, reverse)
    with pytest.raises(ConfigError, match=r"its order.*\['nine', .*'zero'\]"):
        check_sequence(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo.classes = tuple(
            each['name'] for each in annotations(inputs)['categories']
        )[::-1]
    check_sequence(cfg)


def test_the_evaluator_reads_another_file(inputs, tmp_path):
    """Of the same ids and names of files, but with other objects."""
    folder = inputs / 'data/annotations'
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    own = cfg.val_evaluator.ann_file
    for split, found in (
        ('train', r'\d+ of \d+ images .* have their objects elsewhere'),
        ('absent', '10 of 10 images .*not in it.*such as 1'),
        ('renamed', "10 of 10 .*such as 1, which is '000000' and not 'a'"),
    ):
        content = annotations(inputs, 'val')
        if split == 'train':
            content = annotations(inputs)
        elif split == 'absent':
            every('images', lambda e: e.update(id=e['id'] + 100))(content)
        else:
            every('images', lambda e: e.update(file_name='a.png'))(content)
        path = tmp_path / f'{split}.json'
        path.write_text(json.dumps(content))
        cfg.val_evaluator.ann_file = str(path)
        advice = f'must be the file of val_dataloader.dataset: .{own}'
        with pytest.raises(ConfigError, match=f'{found}.*{advice}'):
            check_sequence(cfg)
    cfg.val_evaluator.ann_file = own
    check_sequence(cfg)
    assert own.startswith(str(folder))


def test_an_evaluator_without_a_file_reads_that_of_the_loader(
    inputs, tmp_path
):
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    own = cfg.val_evaluator.pop('ann_file')
    evaluation, steps = check_sequence(cfg).configs()
    assert evaluation.val_evaluator.ann_file == own
    assert steps[0].val_evaluator.ann_file == own


def test_images_that_are_missing(inputs, tmp_path):
    shutil.copytree(inputs / 'data', tmp_path / 'data')
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = f'{tmp_path}/data/'
    check_sequence(cfg)
    for split, count in (('val', 2), ('train', 40)):
        for path in sorted((tmp_path / 'data' / split).iterdir())[-count:]:
            path.unlink()
        message = rf'{split}_dataloader.*: \d+ of the \d+ images .*missing: /'
        with pytest.raises(ConfigError, match=message):
            check_sequence(cfg)


def joined_loader(cfg, loader='train_dataloader'):
    """Training and validation set, one after the other."""
    first = cfg[loader].dataset
    second = copy.deepcopy(first)
    second.ann_file = 'annotations/instances_val.json'
    second.data_prefix = dict(img='val/')
    cfg[loader].dataset = ConfigDict(
        type='RepeatDataset',
        times=5,
        dataset=dict(type='ConcatDataset', datasets=[first, second]),
    )


def test_joined_and_repeated_data(inputs, tmp_path):
    """Two steps to the end, evaluation on joined files included."""

    def shift(content):
        for image in content['images']:
            image['id'] += 1000
        for each in content['annotations']:
            each['image_id'] += 1000

    plain = check_sequence(tiny_sequence(inputs, tmp_path / 'run')).images
    cfg = with_files(inputs, tmp_path / 'own', val=shift)
    second = copy.deepcopy(cfg.val_dataloader.dataset)
    second.ann_file = 'annotations/instances_val.json'
    cfg.val_dataloader.dataset = ConfigDict(
        type='ConcatDataset', datasets=[cfg.val_dataloader.dataset, second]
    )
    cfg.val_evaluator.pop('ann_file')
    joined_loader(cfg)
    found = check_sequence(cfg).images
    assert found[0]['forget'] > plain[0]['forget']
    report = ForgettingSequence(cfg).run()
    assert len(report['steps']) == 2
    metrics = json.loads(
        (tmp_path / 'own/run/pretrained/metrics.json').read_text()
    )
    assert metrics['metrics']['bbox_mAP'] >= 0


def test_hooks_and_folders_that_no_step_takes_over(
    inputs, tmp_path, monkeypatch
):
    cfg = tiny_sequence(inputs, tmp_path / 'run')
    said = []
    monkeypatch.setattr(
        'gslora_mm.sequence.stock_config.print_log',
        lambda line, *_: said.append(line),
    )
    cfg.default_hooks.early = dict(type='EarlyStoppingHook', monitor='mAP')
    cfg.default_hooks.unused = None
    cfg.compile = True
    cfg.visualizer = dict(
        type='DetLocalVisualizer',
        save_dir=str(tmp_path),
        vis_backends=[dict(type='LocalVisBackend', save_dir=str(tmp_path))],
    )
    for config in check_sequence(cfg).configs()[1]:
        assert set(config.default_hooks) <= {
            'timer',
            'logger',
            'param_scheduler',
            'checkpoint',
            'sampler_seed',
        }
        assert 'compile' not in config
        assert 'save_dir' not in str(config.visualizer)
    entries = [line.partition(' is left out')[0] for line in said]
    assert entries == [
        'default_hooks.early',
        'compile',
        'visualizer: save_dir',
    ]


def in_new_style(cfg, modules):
    """Text of a config whose types are imported, by name from a module."""
    content = cfg.to_dict() | dict(default_scope=None)
    text = ''.join(f'{key} = {value!r}\n' for key, value in content.items())
    for name, module in modules.items():
        assert f"'type': '{name}'" in text
        text = text.replace(f"'type': '{name}'", f"'type': {name}")
        text = f'from {module} import {name}\n{text}'
    return text


def test_a_config_of_the_new_style(inputs, tmp_path):
    path = tmp_path / 'new.py'
    path.write_text(
        in_new_style(
            tiny_sequence(inputs, tmp_path / 'run'),
            dict(
                DeformableDETR='mmdet.models',
                DeformableDETRHead='mmdet.models',
                L1Loss='mmdet.models.losses',
                CocoDataset='mmdet.datasets',
                CocoMetric='mmdet.evaluation',
                LoadImageFromFile='mmcv.transforms',
                OptimWrapper='mmengine.optim',
                AdamW='torch.optim',
            ),
        )
    )
    report = ForgettingSequence(read_config(str(path))).run()
    expected = ForgettingSequence(
        tiny_sequence(inputs, tmp_path / 'plain')
    ).run()
    assert [step['per_class'] for step in report['steps']] == [
        step['per_class'] for step in expected['steps']
    ]
    # What its steps have dumped is read again.
    step = read_config(str(tmp_path / 'run/step_01/config.py'))
    assert step.default_scope == 'mmdet'
