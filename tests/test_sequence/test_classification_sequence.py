"""A classifier through a sequence: scores, files, resuming, bad input."""

import copy
import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.datasets import build_dataset
from gslora_mm.reports import comparable
from gslora_mm.sequence import ForgettingSequence, check_sequence, run_step
from gslora_mm.sequence.step import without_prefix
from gslora_mm.training import enable_amp
from gslora_mm.training.held_out import HeldOut
from gslora_mm.training.hooks import StepCheckpointHook
from gslora_mm.utils import ConfigError, load_json
from gslora_mm.utils.checkpoint import load_checkpoint
from tests.class_sequences import (
    CLASSES,
    make_class_inputs,
    make_images,
    tiny_class_sequence,
)
from tests.killed import Killed, killed_after


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    return make_class_inputs(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='module')
def finished(inputs, tmp_path_factory):
    """A sequence that ran through, and its report."""
    work_dir = tmp_path_factory.mktemp('finished') / 'run'
    report = ForgettingSequence(tiny_class_sequence(inputs, work_dir)).run()
    return work_dir, report


def same(report, other):
    return json.dumps(comparable(report)) == json.dumps(comparable(other))


def test_forgets_and_retains(finished):
    work_dir, report = finished
    assert report['task'] == 'classification'
    assert report['classes'] == list(CLASSES)
    assert report['pretrained']['metric'] == 'top1'
    assert report == load_json(work_dir / 'report.json')
    first, second = report['steps']
    assert second['old'] == ['cyan', 'red'] and second['forget'] == ['green']
    for step in (first, second):
        assert step['forget_before'] == step['retain_before'] == 1
        assert step['forget_score'] <= 0.2
        assert step['retain_score'] >= 0.8
        assert step['iterations'] == 24
        # Two blocks of 32 x 64 FFNs at rank 4.
        assert step['trainable_parameters'] == 2 * 2 * 4 * (32 + 64)
    assert second['old_score'] <= 0.4
    text = (work_dir / 'report.md').read_text()
    assert 'Acc_f' in text and 'mAP' not in text and 'box' not in text


@pytest.mark.parametrize('share', ['forget_share', 'retain_share'])
def test_forgets_without_an_image_of_one_side(inputs, tmp_path, share):
    cfg = tiny_class_sequence(inputs, tmp_path / 'run')
    cfg.forgetting[share] = 0
    cfg.method = dict(
        type='gslora_mm.MaskedDistillation', drawing_iterations=30
    )
    report = ForgettingSequence(cfg).run()
    for step in report['steps']:
        assert step['forget_score'] <= 0.2
        # Four images of one colour show little of what others have to stay.
        assert step['retain_score'] >= (0.8 if share == 'forget_share' else 0)


def test_merged_checkpoints_are_stock(finished, inputs):
    from mmpretrain.registry import MODELS

    work_dir, _ = finished
    cfg = tiny_class_sequence(inputs, work_dir)
    before = load_checkpoint(inputs / 'pretrained.pth')['state_dict']
    init_default_scope('mmpretrain')
    for step in ('step_01', 'step_02'):
        checkpoint = load_checkpoint(work_dir / step / 'merged.pth')
        model = MODELS.build(copy.deepcopy(cfg.model))
        model.load_state_dict(checkpoint['state_dict'], strict=True)
        changed = {
            key
            for key, value in checkpoint['state_dict'].items()
            if not torch.equal(value, before[key])
        }
        assert changed and all(
            '.ffn.' in key and key.endswith('.weight') for key in changed
        )
        before = checkpoint['state_dict']


@pytest.mark.parametrize('saves', [2, 4])
def test_killed_after_a_save_and_resumed(
    finished, inputs, tmp_path, monkeypatch, saves
):
    _, report = finished
    hook = killed_after(8 * saves)
    cfg = tiny_class_sequence(inputs, tmp_path / 'run')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepCheckpointHook, 'after_train_iter', hook)
        ForgettingSequence(cfg).run()
    assert same(report, ForgettingSequence(cfg, resume=True).run())


def test_a_dumped_step_config_runs_by_itself(finished, tmp_path):
    work_dir, report = finished
    cfg = Config.fromfile(work_dir / 'step_02' / 'config.py')
    cfg.work_dir = str(tmp_path / 'step')
    cfg.experiment_name = 'by_itself'
    assert same(run_step(cfg), report['steps'][1])


def test_mixed_precision(inputs, tmp_path):
    cfg = tiny_class_sequence(
        inputs, tmp_path / 'run', forgetting__steps=[['red']]
    )
    cfg.schedule.optim_wrapper = enable_amp(cfg.schedule.optim_wrapper)
    (step,) = ForgettingSequence(cfg).run()['steps']
    assert step['forget_score'] <= 0.2 and step['retain_score'] >= 0.8


def test_further_metrics_are_written_too(inputs, tmp_path):
    cfg = tiny_class_sequence(
        inputs,
        tmp_path / 'run',
        forgetting__steps=[['red']],
        schedule__max_iters=2,
    )
    cfg.val_evaluator = [
        dict(type='SingleLabelMetric', items=('precision',)),
        dict(type='Accuracy'),
    ]
    ForgettingSequence(cfg).run()
    for folder in ('pretrained', 'step_01'):
        metrics = load_json(tmp_path / 'run' / folder / 'metrics.json')
        assert {'top1', 'precision', 'per_class/red'} <= set(
            metrics['metrics']
        )


def test_names_of_several_metrics_never_clash():
    metrics = {
        'accuracy/top1': 1,
        'accuracy/forget/top1': 2,
        'face/forget/top1': 3,
        'face/forget/tar': 4,
        'bare': 5,
    }
    assert without_prefix(metrics) == {
        'top1': 1,
        'forget/top1': 2,
        'face/forget/top1': 3,
        'forget/tar': 4,
        'bare': 5,
    }


# Classes of which only the checkpoint knows anything ----------------------


@pytest.fixture(scope='module')
def few_classes(inputs, tmp_path_factory):
    """Training images of four of the six classes; all are evaluated."""
    folder = tmp_path_factory.mktemp('few')
    shown = ('cyan', 'green', 'red', 'yellow')
    make_images(folder / 'images', dict.fromkeys(shown, 12))
    lines = [
        f'{path.relative_to(folder / "images")} '
        f'{CLASSES.index(path.parent.name)}'
        for path in sorted((folder / 'images').rglob('*.png'))
    ]
    (folder / 'train.txt').write_text('\n'.join(lines))
    shutil.copytree(inputs / 'val', folder / 'val')
    shutil.copy(inputs / 'pretrained.pth', folder)
    return folder


def few_class_sequence(folder, work_dir, **options):
    cfg = tiny_class_sequence(folder, work_dir, **options)
    cfg.train_dataloader.dataset.update(
        ann_file=str(folder / 'train.txt'),
        data_prefix=str(folder / 'images'),
        metainfo=dict(classes=CLASSES),
    )
    return cfg


def test_the_rest_of_the_classes_is_missing_and_evaluated(
    few_classes, tmp_path
):
    cfg = few_class_sequence(
        few_classes,
        tmp_path / 'run',
        forgetting__missing='rest',
        forgetting__steps=dict(
            type='gslora_mm.ClassOrder', num_steps=2, classes_per_step=1
        ),
        schedule__max_iters=4,
    )
    report = ForgettingSequence(cfg).run()
    for step in report['steps']:
        assert step['missing'] == ['blue', 'pink']
        assert set(step['missing']) < set(step['retain'])
        assert step['missing_score'] is not None
        assert not set(step['forget']) & {'blue', 'pink'}
    assert 'Acc_m' in (tmp_path / 'run' / 'report.md').read_text()


def test_missing_classes_may_be_listed(few_classes, tmp_path):
    cfg = few_class_sequence(
        few_classes, tmp_path, forgetting__missing=['blue', 'pink']
    )
    plan = check_sequence(cfg).plan
    assert plan.missing == ('blue', 'pink')


def test_classes_without_images_have_to_be_named(few_classes, tmp_path):
    cfg = few_class_sequence(
        few_classes, tmp_path, forgetting__missing=['blue']
    )
    with pytest.raises(
        ConfigError, match="forgetting.missing.*1 classes.*'pink'.*'rest'"
    ):
        check_sequence(cfg)


def test_what_has_no_images_cannot_be_forgotten(few_classes, tmp_path):
    cfg = few_class_sequence(
        few_classes,
        tmp_path,
        forgetting__missing='rest',
        forgetting__steps=[['blue']],
    )
    with pytest.raises(
        ConfigError, match="forgetting.steps: no image shows 'blue'"
    ):
        check_sequence(cfg)


# Classes that the checkpoint does not know -----------------------------------


def test_a_class_is_learned_and_others_are_forgotten(tmp_path):
    inputs = make_class_inputs(
        tmp_path / 'inputs', [name for name in CLASSES if name != 'yellow']
    )
    cfg = tiny_class_sequence(
        inputs,
        tmp_path / 'run',
        forgetting__learn=[['yellow'], []],
        schedule__max_iters=40,
    )
    cfg.method.update(
        type='gslora_mm.KnowledgeSwapping', learn_share=[0.5, 0.0]
    )
    report = ForgettingSequence(cfg).run()
    for step in report['steps']:
        assert step['learned'] == ['yellow']
        assert 'yellow' not in step['retain']
        assert step['learned_before'] == 0
        assert step['learned_score'] >= 0.8
        assert step['retain_score'] >= 0.8
        assert step['forget_score'] <= 0.2
    text = (tmp_path / 'run' / 'report.md').read_text()
    assert 'Acc_l' in text


def test_what_is_learned_later_is_not_seen_before(inputs, tmp_path):
    cfg = tiny_class_sequence(
        inputs, tmp_path, forgetting__learn=[[], ['yellow']]
    )
    images = check_sequence(cfg).images
    # Four shots each of three classes, and of two and the new one.
    assert [step['retain'] for step in images] == [12, 12]


@pytest.mark.parametrize('method', ['DELETE', 'DER', 'EWC', 'FGOrIU'])
def test_a_method_that_cannot_learn_is_not_asked_to(inputs, tmp_path, method):
    cfg = tiny_class_sequence(
        inputs, tmp_path, forgetting__learn=[[], ['yellow']]
    )
    cfg.method = dict(type=f'gslora_mm.{method}')
    with pytest.raises(
        ConfigError,
        match=f"'{method}' learns nothing.* that learn: FineTune, GSLoRA, ",
    ) as error:
        check_sequence(cfg)
    assert 'w_hold' not in str(error.value)


def test_prototypes_guide_learning_without_a_teacher(inputs, tmp_path):
    cfg = tiny_class_sequence(
        inputs, tmp_path, forgetting__learn=[[], ['yellow']]
    )
    cfg.method = dict(type='gslora_mm.GSLoRAPP')
    with pytest.raises(ConfigError, match='with method.w_hold = 0') as error:
        check_sequence(cfg)
    assert 'GSLoRAPP,' not in str(error.value)
    cfg.method.w_hold = 0
    check_sequence(cfg)
    # The teacher of the first step holds nothing of what comes later.
    cfg.method.w_hold = [6.0, 0.0]
    check_sequence(cfg)
    cfg.method.w_hold = [0.0, 6.0]
    with pytest.raises(ConfigError, match='with method.w_hold = 0'):
        check_sequence(cfg)


# Bad input ----------------------------------------------------------------

CASES = {
    'unknown class': (
        dict(forgetting__steps=[['rde']]),
        r"forgetting.steps\[0\].*'rde'.*'red'",
    ),
    'more shots than images': (
        dict(forgetting__shots=13),
        'forgetting.shots = 13: only 12 images',
    ),
    'folder that does not exist': (
        dict(train_dataloader__dataset__data_prefix='no/where'),
        'train_dataloader.dataset.*no/where',
    ),
    'folder without images': (
        dict(train_dataloader__dataset__extensions=['.tif']),
        'train_dataloader.dataset.*Found 0 files',
    ),
    'classes of another number': (
        dict(train_dataloader__dataset__metainfo=dict(classes=['red'])),
        'train_dataloader.dataset',
    ),
    'classes in another order': (
        dict(train_dataloader__dataset__metainfo=dict(classes=CLASSES[::-1])),
        "train_dataloader.*classes: 'yellow' has label 0 there.*label 5",
    ),
    'two classes of one name': (
        dict(
            train_dataloader__dataset__metainfo=dict(
                classes=['a', 'b', 'c', 'a', 'd', 'e']
            )
        ),
        r"train_dataloader.*classes: 'a' is the name of labels \[0, 3\]",
    ),
    'another metric': (
        dict(val_evaluator=dict(_delete_=True, type='MultiLabelMetric')),
        'val_evaluator = .*Accuracy',
    ),
    'top k': (dict(val_evaluator__topk=(1, 7)), r'val_evaluator.topk.*6'),
    'other head': (
        dict(
            model__head=dict(
                type='MultiLabelLinearClsHead',
                num_classes=6,
                in_channels=32,
                _delete_=True,
            )
        ),
        'model.head.type',
    ),
    'another number of classes': (
        dict(model__head__num_classes=7),
        'forgetting.pretrained',
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_bad_input_is_named_and_nothing_happens(inputs, tmp_path, name):
    options, message = CASES[name]
    work_dir = tmp_path / 'run'
    cfg = tiny_class_sequence(inputs, work_dir, **options)
    with pytest.raises(ConfigError, match=f'(?s){message}'):
        ForgettingSequence(cfg).run()
    assert not work_dir.exists()


@pytest.fixture(scope='module')
def found(inputs, tmp_path_factory):
    """A run whose settings find themselves, its report and its config."""
    work_dir = tmp_path_factory.mktemp('found')

    def config(folder):
        cfg = tiny_class_sequence(inputs, folder)
        cfg.method = dict(type='gslora_mm.GSLoRA')
        del cfg.forgetting['shots']
        cfg.schedule = dict(
            max_iters=60,
            batch_size='own',
            held_out=0.25,
            checkpoint_interval=8,
            log_interval=20,
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='AdamW')
            ),
            hooks=[
                dict(
                    type='gslora_mm.AutoScheduleHook',
                    interval=5,
                    min_repair=10,
                )
            ],
        )
        return cfg

    return work_dir, ForgettingSequence(config(work_dir)).run(), config


def test_settings_find_themselves(found):
    work_dir, report, _ = found
    for number, step in enumerate(report['steps'], 1):
        assert step['forget_score'] <= 0.2
        assert step['iterations'] < 60
        cfg = Config.fromfile(work_dir / f'step_{number:02}' / 'config.py')
        assert cfg.train_dataloader.batch_size == 10  # of the stock config
        hook = next(h for h in cfg.custom_hooks if 'Auto' in h.type)
        assert hook.found == step['found']['AutoScheduleHook']
        course = hook.found['course']
        assert course[-1]['phase'] == 'end'
        assert course[-1]['since'] == step['iterations']
        assert 0.75 <= course[-1]['kept'] < 1
        assert hook.found['settings']['bound'] > 2


def test_a_given_learning_rate_is_kept(found, tmp_path):
    _, _, config = found
    cfg = config(tmp_path / 'run')
    cfg.forgetting.steps = [['red']]
    cfg.schedule.optim_wrapper.optimizer.lr = 0.02
    (step,) = ForgettingSequence(cfg).run()['steps']
    course = step['found']['AutoScheduleHook']['course']
    assert {each['lr'] for each in course} == {0.02}
    assert step['forget_score'] == 0


def test_what_was_found_gives_the_same_step(found, tmp_path, monkeypatch):
    work_dir, report, _ = found
    cfg = Config.fromfile(work_dir / 'step_02' / 'config.py')
    cfg.work_dir = str(tmp_path / 'step')
    cfg.experiment_name = 'with_found'
    monkeypatch.setattr(HeldOut, 'look', None)  # nothing is looked at
    assert same(run_step(cfg), report['steps'][1])


@pytest.mark.parametrize('saves', [1, 3])
def test_a_search_goes_on_where_it_was(found, tmp_path, monkeypatch, saves):
    _, report, config = found
    hook = killed_after(8 * saves)
    cfg = config(tmp_path / 'run')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepCheckpointHook, 'after_train_iter', hook)
        ForgettingSequence(cfg).run()
    assert same(report, ForgettingSequence(cfg, resume=True).run())


def test_scores_a_share_of_the_validation_images(inputs, tmp_path):
    cfg = tiny_class_sequence(
        inputs, tmp_path / 'run', forgetting__validation_share=0.4
    )
    report = ForgettingSequence(cfg).run()
    assert report['validation_images'] == [12, 30]
    text = (tmp_path / 'run/report.md').read_text()
    assert '- Scored on 12 of 30 validation images, drawn at ran' in text
    configs = [
        Config.fromfile(tmp_path / 'run' / step / 'config.py')
        for step in ('pretrained', 'step_01', 'step_02')
    ]
    datasets = [build_dataset(each.val_dataloader.dataset.to_dict())
                for each in configs]  # fmt: skip
    chosen = [each.data_list for each in datasets]
    assert len(chosen[0]) == 12 and chosen[0] == chosen[1] == chosen[2]
    # No other seed draws other images, so seeds can be compared.
    other = tiny_class_sequence(
        inputs,
        tmp_path / 'other',
        forgetting__validation_share=0.4,
        forgetting__seed=7,
        randomness=dict(seed=7),
    )
    stock = check_sequence(other).stock['val_dataloader']['dataset']
    assert build_dataset(stock).data_list == chosen[0]


@pytest.mark.parametrize(
    ('share', 'message'),
    [
        (0, r'forgetting.validation_share = 0: must be in \(0, 1\]'),
        (0.04, 'validation_share = 0.04: none of .* that it draws shows'),
    ],
)
def test_shares_of_the_validation_images_that_cannot_be(
    inputs, tmp_path, share, message
):
    cfg = tiny_class_sequence(
        inputs, tmp_path / 'run', forgetting__validation_share=share
    )
    with pytest.raises(ConfigError, match=message):
        check_sequence(cfg)


def test_pairs_of_faces_need_all_validation_images(inputs, tmp_path):
    cfg = tiny_class_sequence(
        inputs, tmp_path / 'run', forgetting__validation_share=0.5
    )
    pairs = [('red/0.png', 'red/1.png', 1)]
    cfg.val_evaluator = [
        cfg.val_evaluator,
        dict(type='gslora_mm.FaceVerification', pairs=pairs),
    ]
    with pytest.raises(ConfigError, match='validation_share = 0.5: FaceVer'):
        check_sequence(cfg)
