"""What a method carries from step to step: GS-LoRA++ in whole sequences."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import ValLoop

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.lora import merge_adapter, read_adapter
from gslora_mm.methods import GSLoRAPP
from gslora_mm.methods.ingredients.prototypes import class_means
from gslora_mm.registry import MODELS
from gslora_mm.reports import comparable
from gslora_mm.sequence import ForgettingSequence, run_step
from gslora_mm.sequence.method_state import load_state, state_identity
from gslora_mm.training import ForgettingModel
from gslora_mm.training.hooks import AdapterEMAHook
from gslora_mm.utils import ConfigError, load_json
from gslora_mm.utils.checkpoint import load_checkpoint, sha256_of
from gslora_mm.utils.tensor_file import load_tensors, save_tensors
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.detectors import with_level_embed
from tests.killed import Killed, killed_after
from tests.sequences import tiny_sequence

#: Means of features, so that the data have a say in the prototypes.
FEATURES = dict(
    method__type='gslora_mm.GSLoRAPP',
    method__prototype_source='features',
    method__w_f=0.5,
    method__w_r=0.5,
    forgetting__missing=['nine'],
)
STATE = 'method.safetensors'
KEY = 'prototypes.features'


def killed(*args, **kwargs):
    raise Killed


def sequence(inputs, work_dir, **options):
    return tiny_sequence(inputs, work_dir, **{**FEATURES, **options})


def same(report, other):
    return json.dumps(comparable(report)) == json.dumps(comparable(other))


@pytest.fixture(scope='module')
def evaluations():
    """Samples that were evaluated, for each evaluation so far."""
    return []


@pytest.fixture(scope='module')
def finished(inputs, tmp_path_factory, evaluations):
    """A sequence that ran through, and its report."""
    work_dir = tmp_path_factory.mktemp('finished') / 'run'
    run = ValLoop.run

    def note(self):
        evaluations.append(len(self.dataloader.dataset))
        return run(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValLoop, 'run', note)
        report = ForgettingSequence(sequence(inputs, work_dir)).run()
    return work_dir, report


# What is in the file ------------------------------------------------------


def test_every_step_has_the_prototypes_of_the_first(finished):
    """Fault 2 of the public code: they came from each step's own model."""
    work_dir, report = finished
    assert report['method'] == 'gs_lora_pp'
    (first, _), (second, _) = (
        load_tensors(work_dir / step / STATE, 'state')
        for step in ('step_01', 'step_02')
    )
    assert first.keys() == second.keys()
    gone = [state.pop('gone').sum().item() for state in (first, second)]
    assert all(torch.equal(first[key], second[key]) for key in first)
    # What is gone adds up.
    assert gone == [2, 3]


def means_of(cfg, checkpoint):
    """Means of a model with a checkpoint on the images of step 1."""
    init_default_scope('mmdet')
    torch.manual_seed(5)
    model = ForgettingModel(
        cfg.model.model.to_dict(),
        cfg.model.task,
        dict(type='gslora_mm.GSLoRA'),
        cfg.model.adapter,
        checkpoint,
    )
    if checkpoint is None:
        with_level_embed(model)
    dataset = cfg.train_dataloader.dataset.to_dict()
    dataset.pop('type')
    return class_means(model, ForgetRetainDataset(**dataset))


def test_prototypes_are_those_of_the_pretrained_model(finished, inputs):
    """Fault 2: in one script the checkpoint had not been loaded yet."""
    work_dir, _ = finished
    cfg = Config.fromfile(work_dir / 'step_01' / 'config.py')
    tensors, metadata = load_tensors(work_dir / 'step_02' / STATE, 'state')
    expected, counts = means_of(cfg, str(inputs / 'pretrained.pth'))
    assert torch.equal(tensors[KEY], expected)
    assert torch.equal(tensors['has_prototype'], counts > 0)
    assert not tensors['has_prototype'][9] and not tensors[KEY][9].any()
    for other in (None, str(work_dir / 'step_01' / 'merged.pth')):
        assert not torch.equal(means_of(cfg, other)[0], expected)
    assert metadata['method'] == 'gs_lora_pp'
    assert metadata['pretrained_sha256'] == sha256_of(
        inputs / 'pretrained.pth'
    )


def test_weights_of_zero_are_gs_lora_to_the_bit(inputs, tmp_path):
    """Making prototypes changes nothing else, no generator either."""
    adapters = {}
    for name, options in dict(
        plus=dict(
            FEATURES, method__w_f=0.0, method__w_r=0.0, method__w_hold=0.0
        ),
        plain=dict(forgetting__missing=FEATURES['forgetting__missing']),
    ).items():
        work_dir = tmp_path / name
        cfg = tiny_sequence(
            inputs, work_dir, forgetting__steps=[['one']], **options
        )
        ForgettingSequence(cfg).run()
        path = work_dir / 'step_01' / 'adapter.safetensors'
        adapters[name] = path.read_bytes()
    assert adapters['plus'] == adapters['plain']
    assert not (tmp_path / 'plain/step_01' / STATE).exists()


def plain_means(cfg, checkpoint):
    """Means of a stock classifier, computed image by image."""
    init_default_scope('mmpretrain')
    model = cfg.model.model.to_dict()
    model['data_preprocessor'] = cfg.data_preprocessor.to_dict()
    model = MODELS.build(model).eval()
    model.load_state_dict(load_checkpoint(checkpoint)['state_dict'])
    dataset = cfg.train_dataloader.dataset.to_dict()
    dataset.pop('type')
    features = {}
    for sample in ForgetRetainDataset(**dataset):
        data = model.data_preprocessor(pseudo_collate([sample]))
        with torch.no_grad():
            (row,) = model.head.pre_logits(model.extract_feat(data['inputs']))
        label = data['data_samples'][0].gt_label.item()
        features.setdefault(label, []).append(row.double())
    return {k: torch.stack(rows).mean(0) for k, rows in features.items()}


def test_a_classifier_forgets_with_prototypes(tmp_path):
    inputs = make_class_inputs(tmp_path / 'images')
    work_dir = tmp_path / 'run'
    cfg = tiny_class_sequence(
        inputs,
        work_dir,
        method__type='gslora_mm.GSLoRAPP',
        method__w_f=0.1,
        method__w_r=0.1,
        train_dataloader__dataset__pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='PackInputs'),
        ],
    )
    report = ForgettingSequence(cfg).run()
    for step in report['steps']:
        assert step['forget_score'] <= 0.2 and step['retain_score'] >= 0.8
    tensors, _ = load_tensors(work_dir / 'step_02' / STATE, 'state')
    means = plain_means(
        Config.fromfile(work_dir / 'step_01' / 'config.py'),
        inputs / 'pretrained.pth',
    )
    assert tensors['has_prototype'].all()
    assert sorted(means) == list(range(len(tensors[KEY])))
    for label, expected in means.items():
        torch.testing.assert_close(
            tensors[KEY][label].double(), expected, rtol=1e-5, atol=1e-5
        )


# Resuming -----------------------------------------------------------------


def test_killed_again_and_again(finished, inputs, tmp_path, monkeypatch):
    """Before the file is there, before training, and within both steps."""
    cfg = sequence(inputs, tmp_path / 'run')
    means = 'gslora_mm.methods.ingredients.prototypes.class_means'
    save = 'gslora_mm.sequence.method_state.save_tensors'
    train = 'gslora_mm.training.runner.Runner.train'
    hook = (
        'gslora_mm.training.hooks.step_checkpoint_hook.StepCheckpointHook.'
        'after_train_iter'
    )
    written = tmp_path / 'run' / 'step_01' / STATE
    for moment, replacement in (
        (means, killed),  # while the data are read
        (save, killed),  # all read, nothing written
        (train, killed),  # written, nothing trained
        (hook, killed_after(2)),  # in the middle of step 1
    ):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(moment, replacement)
            ForgettingSequence(cfg, resume=True).run()
        assert written.exists() == (moment in (train, hook))

    # Neither a step that has saved its state nor a later one makes its own.
    monkeypatch.setattr(means, lambda *args: pytest.fail('made again'))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(hook, killed_after(4))  # in the middle of step 2
        ForgettingSequence(cfg, resume=True).run()
    assert same(finished[1], ForgettingSequence(cfg, resume=True).run())


def test_a_dumped_step_config_runs_by_itself(finished, tmp_path):
    work_dir, report = finished
    cfg = Config.fromfile(work_dir / 'step_02' / 'config.py')
    cfg.work_dir = str(tmp_path / 'step')
    cfg.experiment_name = 'by_itself'
    result = run_step(cfg)
    expected = report['steps'][1]
    assert result['groups'] == expected['groups']
    assert result['per_class'] == expected['per_class']


# Files that cannot be used ------------------------------------------------


def damage(path, **changes):
    """Write a file anew with other metadata."""
    tensors, metadata = load_tensors(path, 'state')
    save_tensors(tensors, path, {**metadata, **changes})


DAMAGES = {
    'gone': (lambda path: path.unlink(), 'no such file'),
    'half written': (
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        'not a complete safetensors file',
    ),
    'another checkpoint': (
        lambda path: damage(path, pretrained_sha256='0' * 64),
        'SHA-256 0000.*forgetting.pretrained',
    ),
    'another method': (
        lambda path: damage(path, method='ewc'),
        'of method ewc, not gs_lora_pp',
    ),
    'other classes': (
        lambda path: damage(path, classes='one\nzero'),
        'classes or their order differ: one, zero there, zero, one, two',
    ),
    'another source': (
        lambda path: save_tensors(
            {
                'prototypes.class_layer': torch.zeros(10, 64),
                'has_prototype': torch.ones(10, dtype=torch.bool),
            },
            path,
            load_tensors(path, 'state')[1],
        ),
        "method.prototype_source is 'features'",
    ),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_no_step_goes_on_without_the_state_of_the_one_before(
    finished, inputs, tmp_path, name
):
    """Its own model has forgotten; other prototypes would be no error."""
    change, message = DAMAGES[name]
    work_dir = tmp_path / 'run'
    shutil.copytree(finished[0], work_dir)
    shutil.rmtree(work_dir / 'step_02')
    change(work_dir / 'step_01' / STATE)
    cfg = sequence(inputs, work_dir)
    with pytest.raises(ConfigError, match=f'(?s)method_state.*{message}'):
        ForgettingSequence(cfg, resume=True).run()
    assert not (work_dir / 'step_02' / STATE).exists()


@pytest.mark.parametrize('name', DAMAGES)
def test_a_file_of_the_user_is_checked_before_anything_happens(
    finished, inputs, tmp_path, name
):
    change, message = DAMAGES[name]
    path = tmp_path / 'mine.safetensors'
    shutil.copy(finished[0] / 'step_01' / STATE, path)
    change(path)
    work_dir = tmp_path / 'run'
    cfg = sequence(inputs, work_dir, method__prototypes=str(path))
    with pytest.raises(ConfigError, match=f'(?s)method.prototypes.*{message}'):
        ForgettingSequence(cfg).run()
    assert not work_dir.exists()


def test_a_file_of_the_user_is_used(finished, inputs, tmp_path, monkeypatch):
    tensors, metadata = load_tensors(finished[0] / 'step_01' / STATE, 'state')
    tensors[KEY] += 1
    path = tmp_path / 'mine.safetensors'
    save_tensors(tensors, path, metadata)
    monkeypatch.setattr(
        'gslora_mm.methods.ingredients.prototypes.class_means', killed
    )
    cfg = sequence(
        inputs,
        tmp_path / 'run',
        method__prototypes=str(path),
        forgetting__steps=[['one']],
    )
    ForgettingSequence(cfg).run()
    found, _ = load_tensors(tmp_path / 'run' / 'step_01' / STATE, 'state')
    assert torch.equal(found[KEY], tensors[KEY])


def test_a_state_of_another_shape_is_refused(tmp_path):
    method = GSLoRAPP(prototype_source='features')
    identity = state_identity(method, 'abc', ['cat', 'dog'])
    path = tmp_path / STATE
    save_tensors(
        {KEY: torch.zeros(2), 'has_prototype': torch.ones(2)}, path, identity
    )
    with pytest.raises(ConfigError, match=f'here = .*{STATE}.*shape'):
        load_state(method, str(path), identity, 'here')


# Averages and evaluations -------------------------------------------------


def test_the_averaged_adapter_is_saved_merged_and_evaluated(
    inputs, tmp_path, monkeypatch
):
    """Fault 6: weights without their LoRA were evaluated for the average."""
    seen, evaluated = [], []
    after_train_iter = AdapterEMAHook.after_train_iter
    run = ValLoop.run

    def note_parameters(self, runner, *args, **kwargs):
        model = runner.model.model
        seen.append(
            {
                name: parameter.detach().clone()
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
            }
        )
        after_train_iter(self, runner, *args, **kwargs)

    def note_weights(self):
        model = getattr(self.runner.model, 'model', self.runner.model)
        evaluated.append({k: v.clone() for k, v in model.state_dict().items()})
        return run(self)

    monkeypatch.setattr(AdapterEMAHook, 'after_train_iter', note_parameters)
    monkeypatch.setattr(ValLoop, 'run', note_weights)
    cfg = sequence(
        inputs,
        tmp_path / 'run',
        method__form='published',
        method__prototype_source=None,
        forgetting__steps=[['one']],
        schedule__hooks=[
            dict(type='gslora_mm.AdapterEMAHook', decay=0.5, begin_iter=1)
        ],
    )
    ForgettingSequence(cfg).run()

    # Iterations 2, 3 and 4 of four, the first of them as it is.
    average = {
        name: 0.25 * seen[1][name] + 0.25 * seen[2][name] + 0.5 * last
        for name, last in seen[3].items()
    }
    step = tmp_path / 'run' / 'step_01'
    adapter, metadata = read_adapter(step / 'adapter.safetensors')
    assert set(adapter) == set(average)
    for name, tensor in adapter.items():
        torch.testing.assert_close(tensor, average[name], msg=name)
        assert not torch.equal(tensor, seen[3][name])
    stock = load_checkpoint(inputs / 'pretrained.pth')['state_dict']
    merged = load_checkpoint(step / 'merged.pth')['state_dict']
    expected = merge_adapter(stock, adapter, float(metadata['alpha']))
    before, after = evaluated
    assert list(merged) == list(after) == list(expected)
    changed = 0
    for key, value in merged.items():
        assert torch.equal(value, expected[key]), key
        assert torch.equal(value, after[key]), key
        changed += not torch.equal(value, before[key])
    assert changed == len(adapter) / 2

    # In the published form, a detector's prototypes are rows of its last class
    # layer.
    tensors, _ = load_tensors(step / STATE, 'state')
    rows = stock['bbox_head.cls_branches.1.weight']
    assert torch.equal(tensors['prototypes.class_layer'], rows)
    assert tensors['has_prototype'].all()


def test_one_evaluation_a_step(finished, evaluations, inputs):
    """Fault 10: there was one for each split."""
    _, report = finished
    cfg = sequence(inputs, 'unused')
    images = load_json(cfg.val_evaluator.ann_file)['images']
    assert evaluations == [len(images)] * (1 + len(report['steps']))
    assert report['steps'][1]['old_score'] is not None
