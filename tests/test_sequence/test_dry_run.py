"""Bad input is refused with words before any training."""

import json
import re
import shlex
import shutil
import types

import pytest
import torch

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.sequence.dry_run import check_sequence
from gslora_mm.utils import ConfigError
from tests.sequences import tiny_sequence
from tests.test_models.test_converters.test_detectors import v2_names
from tests.test_tools.helpers import load_tool


def test_what_is_found_out(inputs, tmp_path):
    checked = check_sequence(tiny_sequence(inputs, tmp_path / 'run'))
    assert checked.max_iters == [4, 4]
    assert [len(step) for step in checked.plan.steps] == [2, 1]
    assert all(found['forget'] > 0 for found in checked.images)
    assert not (tmp_path / 'run').exists()


def test_epochs_are_passes_over_the_retain_images(inputs, tmp_path):
    cfg = tiny_sequence(
        inputs,
        tmp_path / 'run',
        schedule__max_iters=None,
        schedule__max_epochs=3,
    )
    checked = check_sequence(cfg)
    pairs = zip(checked.images, checked.max_iters, strict=True)
    for found, iters in pairs:
        assert iters == 3 * -(-found['retain'] // 2)


def test_half_a_training_is_as_long_with_few_of_the_images(inputs, tmp_path):
    def checked(**changes):
        cfg = tiny_sequence(
            inputs,
            tmp_path / 'run',
            schedule__max_iters=None,
            schedule__max_epochs='half',
            schedule__batch_size=12,
            train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=8),
            forgetting__shots=None,
            **changes,
        )
        return check_sequence(cfg)

    every = checked(
        forgetting__retain_share=1.0, forgetting__forget_share=1.0
    )
    few = checked(forgetting__retain_share=0.2, forgetting__forget_share=0.2)
    for step, iters in enumerate(every.max_iters):
        used, found = every.images[step], every.found[step]
        assert used['retain'] == found['retain']
        assert iters == 4 * -(-found['retain'] // 6)
        assert few.images[step]['retain'] < used['retain']
    assert few.max_iters == every.max_iters


CASES = {
    'unknown category': (
        dict(forgetting__steps=[['sevn']]),
        r"forgetting.steps\[0\].*'sevn'.*'seven'",
    ),
    'category in two steps': (
        dict(forgetting__steps=[['one'], ['one']]),
        "'one'.*steps 1 and 2",
    ),
    'empty step': (dict(forgetting__steps=[['one'], []]), 'forgets nothing'),
    'unknown entry': (dict(forgetting__share=0.1), 'forgetting.share'),
    'share': (
        dict(forgetting__retain_share=1.5),
        r'forgetting.retain_share = 1.5.*\(0, 1\]',
    ),
    'share and shots': (dict(forgetting__shots=3), 'forgetting.shots'),
    'too many shots': (
        dict(
            forgetting__shots=1000,
            forgetting__retain_share=None,
            forgetting__forget_share=None,
        ),
        r'step 1: forgetting.shots = 1000: only \d+ images show',
    ),
    'annotation file missing': (
        dict(train_dataloader__dataset__ann_file='annotations/no.json'),
        'train_dataloader.dataset.ann_file = .*no.json',
    ),
    'checkpoint missing': (
        dict(forgetting__pretrained='no/where.pth'),
        'forgetting.pretrained = .*no such file',
    ),
    'type of another package': (
        dict(model__bbox_head__type='CoDINOHead'),
        r"model: CoDINOHead is not in .*custom_imports=dict\(imports=\['PACK",
    ),
    'another model': (
        dict(model__encoder__num_layers=2),
        r'forgetting.pretrained.*encoder.layers.1',
    ),
    'rank': (dict(adapter__rank=0), 'rank'),
    'no such target': (dict(adapter__target='no_such_module'), 'target'),
    'negative weight': (dict(method__beta=-1.0), 'method.beta = -1'),
    'weights for other steps': (
        dict(method__beta=[0.1, 0.2, 0.3]),
        'method.beta.*3 entries for 2 steps',
    ),
    'unknown method': (dict(method__type='GSLora'), "'GSLora'.*'GSLoRA'"),
    'unknown argument': (dict(method__betta=1), 'betta.*arguments are'),
    'empty half': (
        dict(schedule__batch_size=1),
        'schedule.forget_ratio = 0.5: of batch_size = 1 .*at least 1',
    ),
    'ratio': (dict(schedule__forget_ratio=0.01), 'schedule.forget_ratio'),
    'no length': (dict(schedule__max_iters=None), 'exactly one'),
    'negative length': (dict(schedule__max_iters=-4), 'max_iters = -4'),
    'another metric': (
        dict(val_evaluator__type='VOCMetric'),
        'val_evaluator.*CocoMetric',
    ),
    'unknown argument of the adapter': (
        dict(adapter__rnk=4),
        "adapter: unknown name 'rnk'.*'rank'",
    ),
    'validation annotations missing': (
        dict(val_evaluator__ann_file='no.json'),
        'no.json',
    ),
    'images missing': (
        dict(train_dataloader__dataset__data_prefix=dict(img='nowhere/')),
        'train_dataloader.dataset.data_prefix: 32 of the 32 .*nowhere',
    ),
    'hook': (
        dict(schedule__hooks=[dict(type='gslora_mm.AdapterEMAHook', decay=2)]),
        'decay = 2',
    ),
    'average of what is taken back': (
        dict(
            schedule__param_scheduler=None,
            schedule__hooks=[
                dict(type='gslora_mm.AutoScheduleHook'),
                dict(type='gslora_mm.AdapterEMAHook', decay=0.9),
            ]
        ),
        'AutoScheduleHook.take_back = 0.5: AdapterEMAHook ends a step',
    ),
    'optimizer': (
        dict(schedule__optim_wrapper__optimizer__type='AdamX'),
        'schedule.optim_wrapper',
    ),
    'scheduler': (
        dict(schedule__param_scheduler=dict(type='LinearLRR')),
        'schedule.param_scheduler',
    ),
    'annealed upwards': (
        dict(
            schedule__param_scheduler=dict(
                type='CosineAnnealingLR', eta_min=1.0
            )
        ),
        'eta_min = 1.0: it is above the learning rate',
    ),
    'no optimizer': (
        dict(schedule__optim_wrapper__optimizer=None),
        'schedule.optim_wrapper',
    ),
    'early stop of what has no end': (
        dict(
            method=dict(type='gslora_mm.NegGradPlus', _delete_=True),
            schedule__hooks=[dict(type='gslora_mm.ForgettingEarlyStopHook')],
        ),
        "ForgettingEarlyStopHook needs .*'NegGradPlus' lacks one",
    ),
    'checkpoint interval': (
        dict(schedule__checkpoint_interval=0),
        'schedule.checkpoint_interval = 0',
    ),
    'accumulation': (
        dict(
            schedule__optim_wrapper__accumulative_counts=2,
            schedule__checkpoint_interval=3,
        ),
        'multiple of .*accumulative_counts',
    ),
    'share of another type': (
        dict(forgetting__retain_share='0.1'),
        'forgetting',
    ),
    'infinite weight': (dict(method__beta=float('inf')), 'method.beta = inf'),
    'missing as a string': (
        dict(forgetting__missing='one'),
        "forgetting.missing = 'one'",
    ),
    'other classes in validation': (
        dict(val_dataloader__dataset__metainfo=dict(classes=('one', 'zero'))),
        'val_dataloader|classes',
    ),
    'learned too late': (
        dict(forgetting__learn=[[], ['three']]),
        r"forgetting.learn\[1\]: it names 'three', which step 2 forgets",
    ),
    'auxiliary losses': (
        dict(task=dict(type='gslora_mm.DetectionTask', aux_loss=dict(f=1))),
        'task.aux_loss',
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_bad_input_is_named_and_nothing_happens(inputs, tmp_path, name):
    options, message = CASES[name]
    work_dir = tmp_path / 'run'
    cfg = tiny_sequence(inputs, work_dir, **options)
    with pytest.raises(ConfigError, match=f'(?s){message}'):
        ForgettingSequence(cfg).run()
    assert not work_dir.exists()


def test_malformed_annotations(inputs, tmp_path):
    (tmp_path / 'half.json').write_text('{"images": [')
    cfg = tiny_sequence(
        inputs,
        tmp_path / 'run',
        train_dataloader__dataset__ann_file=str(tmp_path / 'half.json'),
    )
    with pytest.raises(ConfigError, match='half.json'):
        check_sequence(cfg)


def test_no_image_of_a_category(inputs, tmp_path):
    folder = inputs / 'data' / 'annotations'
    content = json.loads((folder / 'instances_train.json').read_text())
    content['annotations'] = [
        a for a in content['annotations'] if a['category_id'] != 8
    ]
    path = tmp_path / 'no_sevens.json'
    path.write_text(json.dumps(content))
    cfg = tiny_sequence(
        inputs,
        tmp_path / 'run',
        train_dataloader__dataset__ann_file=str(path),
    )
    with pytest.raises(ConfigError, match="step 1.*no image shows 'seven'"):
        check_sequence(cfg)


def test_a_checkpoint_with_code_needs_permission(inputs, tmp_path):
    checkpoint = torch.load(inputs / 'pretrained.pth')
    checkpoint['meta']['code'] = types.SimpleNamespace(code=1)
    path = tmp_path / 'code.pth'
    torch.save(checkpoint, path)
    options = dict(forgetting__pretrained=str(path))
    cfg = tiny_sequence(inputs, tmp_path / 'run', **options)
    refused = 'forgetting.allow_pickle = False: .*allow it with True'
    with pytest.raises(ConfigError, match=refused):
        check_sequence(cfg)
    cfg.forgetting.allow_pickle = True
    assert check_sequence(cfg).max_iters == [4, 4]


def test_classes_to_learn_that_the_class_layer_cannot_tell(inputs, tmp_path):
    checkpoint = torch.load(inputs / 'pretrained.pth')
    key = 'bbox_head.cls_branches.1.weight'  # of the last decoder layer
    rows = checkpoint['state_dict'][key]
    path = tmp_path / 'same.pth'
    learn = dict(forgetting__learn=[['zero'], ['nine']])
    check_sequence(tiny_sequence(inputs, tmp_path / 'run', **learn))
    rows[9] = rows[0]
    torch.save(checkpoint, path)
    options = {'forgetting__pretrained': str(path), **learn}
    cfg = tiny_sequence(inputs, tmp_path / 'run', **options)
    with pytest.raises(ConfigError, match="'zero' and 'nine', whose rows"):
        check_sequence(cfg)


def keep_images(inputs, folder, is_kept):
    """A copy of the data with some of the training images alone."""
    shutil.copytree(inputs, folder)
    path = folder / 'data/annotations/instances_train.json'
    content = json.loads(path.read_text())
    names = {each['id']: each['name'] for each in content['categories']}
    shown = {image['id']: set() for image in content['images']}
    for each in content['annotations']:
        shown[each['image_id']].add(names[each['category_id']])
    kept = {image for image, classes in shown.items() if is_kept(classes)}
    for image in content['images']:
        if image['id'] not in kept:
            (folder / 'data/train' / image['file_name']).unlink()
    content['images'] = [i for i in content['images'] if i['id'] in kept]
    content['annotations'] = [
        each for each in content['annotations'] if each['image_id'] in kept
    ]
    path.write_text(json.dumps(content))
    return folder, content


def test_without_replay_no_retained_image_is_needed(inputs, tmp_path, capsys):
    """A user who has nothing but what is to be forgotten."""
    forgotten = {'one', 'seven', 'three'}
    folder, content = keep_images(
        inputs, tmp_path / 'inputs', lambda shown: shown & forgotten
    )
    labels = {
        each['id']: each['name'] in forgotten for each in content['categories']
    }
    content['annotations'] = [
        each for each in content['annotations'] if labels[each['category_id']]
    ]
    path = folder / 'data/annotations/instances_train.json'
    path.write_text(json.dumps(content))
    cfg = tiny_sequence(folder, tmp_path / 'run', schedule__max_iters=1)
    with pytest.raises(ConfigError, match='the training set shows nothing'):
        check_sequence(cfg)
    cfg.method = dict(type='gslora_mm.DELETE')
    report = ForgettingSequence(cfg).run()
    assert [step['iterations'] for step in report['steps']] == [1, 1]
    assert 'forget images, 1 iterations)' in capsys.readouterr().out
    # There is nothing to be missed, and steps are drawn of what is shown.
    cfg.forgetting.missing = 'rest'
    cfg.forgetting.steps = dict(
        type='gslora_mm.ClassOrder', num_steps=2, classes_per_step=1
    )
    plan = check_sequence(cfg).plan
    assert {name for (name,) in plan.steps} < forgotten
    assert plan.missing == () and len(plan.splits(2)['retain']) == 8
    cfg.forgetting.steps = [list(names) for names in plan.steps]
    cfg.forgetting.missing = plan.splits(2)['retain']
    with pytest.raises(ConfigError, match='needs none, so leave it out'):
        check_sequence(cfg)


def test_fine_tuning_needs_no_image_to_forget(inputs, tmp_path):
    """They may be deleted already."""
    forgotten = {'one', 'seven', 'three'}
    folder, _ = keep_images(
        inputs, tmp_path / 'inputs', lambda shown: not shown & forgotten
    )
    cfg = tiny_sequence(folder, tmp_path / 'run')
    cfg.forgetting.steps = [sorted(forgotten)]
    with pytest.raises(ConfigError, match="no image shows 'one'"):
        check_sequence(cfg)
    cfg.method = dict(type='gslora_mm.FineTune')
    (found,) = check_sequence(cfg).images
    assert found['forget'] == 0 < found['retain']


def test_a_checkpoint_of_others_is_refused_once(inputs, tmp_path):
    """With the command that makes it fit."""
    old = tmp_path / 'my old model.pth'
    stock = torch.load(inputs / 'pretrained.pth')['state_dict']
    names = v2_names(stock, 'deformable_detr')
    torch.save(dict(state_dict=names, meta={}), old)
    cfg = tiny_sequence(
        inputs, tmp_path / 'run', forgetting__pretrained=str(old)
    )
    with pytest.raises(
        ConfigError,
        match='^forgetting.pretrained = .*Deformable-DETR of mmdet 2',
    ) as error:
        check_sequence(cfg)
    command = re.search('python (.*)', str(error.value))[1]
    tool, *args = shlex.split(command)
    load_tool(tool.removeprefix('tools/').removesuffix('.py')).main(args)
    cfg.forgetting.pretrained = args[-1]
    assert repr(args[-1]) in str(error.value)
    check_sequence(cfg)
