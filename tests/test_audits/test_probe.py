"""Features of real models, and the work dir of a real sequence."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.audits.probe import (
    LabelledImages,
    extract_features,
    probe_work_dir,
)
from gslora_mm.audits.probe_table import render_probe
from gslora_mm.datasets import build_dataset
from gslora_mm.sequence import ForgettingSequence
from gslora_mm.tasks import DetectionTask
from gslora_mm.utils import ConfigError, load_json, save_json
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.detectors import build_detector, random_batch
from tests.sequences import tiny_sequence


@pytest.fixture(scope='module')
def class_inputs(tmp_path_factory):
    return make_class_inputs(tmp_path_factory.mktemp('class_inputs'))


@pytest.fixture(scope='module')
def finished(class_inputs, tmp_path_factory):
    """A work dir of two finished steps of a classifier."""
    work_dir = tmp_path_factory.mktemp('probe') / 'run'
    ForgettingSequence(tiny_class_sequence(class_inputs, work_dir)).run()
    return work_dir


def probe(work_dir, **kwargs):
    return probe_work_dir(work_dir, say=lambda line: None, **kwargs)


@pytest.fixture(scope='module')
def result(finished, class_inputs):
    """The "retrained" model here is the pre-trained one."""
    retrained = str(class_inputs / 'pretrained.pth')
    return probe(finished, retrained=retrained, shots=8)


class Batch(torch.utils.data.Dataset):
    """A random batch of detection, sample by sample."""

    def __init__(self, num_images):
        self.batch = random_batch(num_images)

    def __len__(self):
        return len(self.batch['inputs'])

    def __getitem__(self, index):
        return {key: value[index] for key, value in self.batch.items()}


@pytest.mark.parametrize(
    'name', ['detr', 'deformable_detr_two_stage', 'dino', 'dab_detr']
)
def test_a_row_an_object(name):
    """Whatever the detector needs only in training (DINO's queries)."""
    model = build_detector(name, dropout=0.5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = [
        extract_features(model, DetectionTask(), Batch(3), batch_size=2)
        for _ in range(2)
    ]
    labels = [
        sample.gt_instances.labels for sample in Batch(3).batch['data_samples']
    ]
    for features in found:
        # In which order is the matching's affair.
        assert sorted(features.labels.tolist()) == sorted(
            torch.cat(labels).tolist()
        )
        assert features.features.ndim == 2
        assert not features.features.requires_grad
        assert features.predictions.max() < 4
    # No dropout, and no batch norm that moves its statistics.
    torch.testing.assert_close(found[0].features, found[1].features)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_ground_truth_is_on_the_resized_image(inputs, tmp_path):
    """As the training pipeline has it, which resizes after loading it."""
    cfg = tiny_sequence(inputs, tmp_path)
    init_default_scope('mmdet')
    train, val = (
        cfg[f'{name}_dataloader'].dataset.to_dict()
        for name in ('train', 'val')
    )
    for pipeline in (train['pipeline'], val['pipeline']):
        for transform in pipeline:
            if transform['type'] == 'Resize':
                transform.update(scale=(64, 48), keep_ratio=False)
    expected = build_dataset(train)
    found = LabelledImages(
        build_dataset({**train, 'pipeline': val['pipeline']}), [3, 5]
    )
    assert len(found) == 2
    for index, place in ((3, 0), (5, 1)):
        truth = expected[index]['data_samples'].gt_instances
        mine = found[place]['data_samples'].gt_instances
        torch.testing.assert_close(mine.bboxes, truth.bboxes.tensor)
        assert torch.equal(mine.labels, truth.labels)
        assert torch.equal(found[place]['inputs'], expected[index]['inputs'])


def test_a_pipeline_without_a_scale_is_refused(inputs, tmp_path):
    cfg = tiny_sequence(inputs, tmp_path)
    init_default_scope('mmdet')
    val = cfg.val_dataloader.dataset.to_dict()
    val['pipeline'][-1]['meta_keys'] = ('img_id', 'img_shape')
    images = LabelledImages(build_dataset(val))
    with pytest.raises(ConfigError, match='scale_factor'):
        images[0]


def test_compares_models_on_the_splits_of_each_step(result):
    assert [step['step'] for step in result['steps']] == [1, 2]
    first, last = result['steps']
    assert set(first['splits']['forget']) == {'red', 'cyan'}
    assert 'old' not in first['splits'] and 'missing' not in first['splits']
    assert set(last['splits']['old']) == {'red', 'cyan'}
    assert [row['model'] for row in first['rows']] == [
        'pre-trained',
        'after step 1',
    ]
    assert [row['model'] for row in last['rows']] == [
        'pre-trained',
        'after step 2',
        'retrained',
    ]
    data = result['data']
    assert data['training_rows'] == data['training_images'] == 48
    assert data['validation_rows'] == data['validation_images'] == 30
    for step in result['steps']:
        for row in step['rows']:
            assert set(row['probe']) == set(row['head'])
            assert set(row['probe']) == set(step['splits'])
    for model in result['models'].values():
        assert list(model['probe']) == result['classes']


def test_the_head_scores_what_the_evaluation_did(result, finished):
    report = load_json(finished / 'report.json')
    for step, reported in zip(result['steps'], report['steps'], strict=True):
        before, after = step['rows'][:2]
        for split in step['splits']:
            assert before['head'][split] == pytest.approx(
                reported[f'{split}_before']
            )
            assert after['head'][split] == pytest.approx(
                reported[f'{split}_score']
            )


def test_the_head_fails_where_the_probe_need_not(result):
    before, after, _ = result['steps'][1]['rows']
    assert before['probe']['retain'] > 0.8
    assert after['probe']['forget'] > after['head']['forget']


def test_the_same_weights_have_the_same_probe(result):
    models = result['models']
    assert models['retrained'] == models['pre-trained']
    assert models['after step 2'] != models['pre-trained']


def test_one_step_has_the_same_figures(result, finished):
    alone = probe(finished, step=2, shots=8)
    (step,) = alone['steps']
    assert step['rows'] == result['steps'][1]['rows'][:2]
    assert set(alone['models']) == {'pre-trained', 'after step 2'}


def test_the_table(result):
    text = render_probe(json.loads(json.dumps(result)))
    assert '## Step 2\n\nForgets green.' in text
    assert '| Model ' in text and '| retrained' in text
    assert '8 training images for each class' in ' '.join(text.split())
    assert '(48 images of all classes)' in ' '.join(text.split())
    assert 'o: forgotten before' in text and 'm: ' not in text
    assert all(len(line) < 80 for line in text.splitlines())


def test_learned_classes_are_a_split_of_their_own(finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'run')
    path = tmp_path / 'run' / 'step_02' / 'result.json'
    save_json(load_json(path) | dict(learned=['yellow']), path)
    found = probe(tmp_path / 'run', step=2, shots=8)
    assert found['steps'][0]['splits']['learned'] == ['yellow']
    text = render_probe(found)
    assert 'l: learned so far' in ' '.join(text.split())
    assert '| Probe l |' in text


def test_refuses_what_is_not_there(finished, tmp_path):
    with pytest.raises(ConfigError, match='has no sequence.json'):
        probe(tmp_path)
    with pytest.raises(ConfigError, match='step = 3.*finished are 1, 2'):
        probe(finished, step=3)
    with pytest.raises(ConfigError, match='shots = 1000'):
        probe(finished, shots=1000)
    with pytest.raises(ConfigError, match='retrained = .*none.pth'):
        probe(finished, step=1, shots=4, retrained='none.pth')


def test_refuses_another_pretrained_model(finished, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(finished, work_dir)
    sequence = load_json(work_dir / 'sequence.json')
    sequence['checkpoint_sha256'] = '0' * 64
    save_json(sequence, work_dir / 'sequence.json')
    with pytest.raises(ConfigError, match='not the file.*000000'):
        probe(work_dir)


def test_refuses_a_model_of_another_shape(finished, tmp_path):
    model = build_detector('detr')
    torch.save(model.state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match='retrained: the checkpoint does'):
        probe(finished, step=1, shots=4, retrained=tmp_path / 'other.pth')


def test_a_retrained_model_needs_only_a_wrapper(inputs):
    """The config of the documentation selects what it says."""
    from tests.sequences import ROOT

    cfg = Config.fromfile(
        ROOT / 'configs/mini/retrain_deformable-detr_mini-coco_3x2.py'
    )
    sequence = Config.fromfile(
        ROOT / 'configs/mini/gs-lora_deformable-detr_mini-coco_3x2.py'
    )
    dataset = cfg.train_dataloader.dataset.to_dict()
    dataset['dataset']['data_root'] = f'{inputs}/data/'
    init_default_scope('mmdet')
    from gslora_mm.registry import DATASETS

    subset = DATASETS.build(dataset)
    forgotten = {name for step in sequence.forgetting.steps for name in step}
    names = subset.metainfo['classes']
    assert set(dataset['classes']) == set(names) - forgotten
    labels = torch.cat(
        [subset[i]['data_samples'].gt_instances.labels for i in range(5)]
    )
    assert {names[label] for label in labels} <= set(dataset['classes'])


def test_a_step_whose_predecessor_is_gone(finished, tmp_path, result):
    work_dir = tmp_path / 'run'
    shutil.copytree(finished, work_dir)
    (work_dir / 'step_01' / 'result.json').unlink()
    found = probe(work_dir, step=2)
    assert [step['step'] for step in found['steps']] == [2]
