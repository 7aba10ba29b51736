"""Audits of real sequences, small ones."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from gslora_mm.audits import Audit, LabelledImages, Suspect, known_attacks
from gslora_mm.audits.audit_table import render_audit
from gslora_mm.datasets import build_dataset
from gslora_mm.registry import ATTACKS
from gslora_mm.sequence import ForgettingSequence
from gslora_mm.utils import ConfigError, load_json
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from tests.class_sequences import (
    CLASSES,
    make_class_inputs,
    tiny_class_sequence,
)
from tests.sequences import tiny_sequence

GONE = ('red', 'cyan', 'green')
QUICK = dict(
    linear_probe=dict(shots=(2,)),
    prototype=dict(shots=(2,)),
    relearning=dict(shots=2, iterations=(1, 2)),
    retain_tuning=dict(iterations=(1,)),
)


@pytest.fixture(scope='module')
def class_inputs(tmp_path_factory):
    return make_class_inputs(tmp_path_factory.mktemp('class_inputs'))


@pytest.fixture(scope='module')
def retrained(tmp_path_factory):
    """Two models that never learned what is forgotten."""
    kept = [name for name in CLASSES if name not in GONE]
    paths = []
    for seed in range(2):
        folder = tmp_path_factory.mktemp(f'retrained_{seed}')
        torch.manual_seed(seed)
        make_class_inputs(folder, kept)
        paths.append(str(folder / 'pretrained.pth'))
    return paths


@pytest.fixture(scope='module')
def finished(class_inputs, tmp_path_factory):
    """A work dir of two finished steps of a classifier."""
    work_dir = tmp_path_factory.mktemp('audit') / 'run'
    cfg = tiny_class_sequence(class_inputs, work_dir)
    ForgettingSequence(cfg).run()
    return work_dir


def audit(work_dir, **kwargs):
    kwargs = dict(options=QUICK, say=lambda line: None) | kwargs
    return Audit(work_dir, **kwargs)


@pytest.fixture(scope='module')
def result(finished, retrained):
    return audit(finished, retrained=retrained, seeds=[0, 1]).attack()


def entries(result, name):
    return [each for each in result['attacks'] if each['name'] == name]


def test_all_attacks_that_fit_are_run(result):
    found = {each['name'] for each in result['attacks']}
    left = {each['name']: each['reason'] for each in result['not_run']}
    assert found | set(left) == set(known_attacks())
    assert set(left) == {'localisation', 'verification'}
    assert 'no boxes' in left['localisation']
    assert result['step'] == 2 and result['claim'] == 'concept'
    assert set(result['classes']) == set(GONE)
    for each in result['attacks']:
        assert 0 <= each['pretrained'] <= 1.5, each
        assert len(each['retrained']) == 2
        assert each['seconds'] >= 0
        if each['name'] not in ('similarity', 'collateral'):
            low, high = each['after_interval']
            assert low <= each['after'] + 1e-9
            assert high >= each['after'] - 1e-9
            assert set(each['per_class']) == set(GONE)


def test_what_separates_is_told(result):
    # Its own head scored the classes before, and that of no other does.
    (found,) = entries(result, 'head_transplant')
    assert found['pretrained'] > 0.5
    curve = entries(result, 'relearning')
    settings = [
        (each['setting']['trained'], each['setting']['iterations'])
        for each in curve
    ]
    assert settings == [
        (part, at) for part in ('all', 'head', 'lora') for at in (1, 2)
    ]
    for each in entries(result, 'similarity'):
        assert each['pretrained'] == pytest.approx(1)
        assert each['resisted'] is None
    assert (
        max(each['pretrained'] for each in entries(result, 'linear_probe'))
        > 0.8
    )


def test_files(result, finished):
    assert load_json(finished / 'audit' / 'audit.json') == json.loads(
        json.dumps(result)
    )
    text = render_audit(result)
    assert text.startswith('# Audit of step 2\n')
    for name in {each['name'] for each in result['attacks']}:
        assert f'\n## {name}\n' in text
    assert 'No control' not in text
    assert '- `localisation`: ' in text
    assert result['checkpoint_sha256'] in text


def test_what_is_finished_is_not_computed_again(
    result, finished, retrained, monkeypatch
):
    for cls in known_attacks().values():
        monkeypatch.setattr(cls, 'measure', None)
    again = audit(finished, retrained=retrained, seeds=[0, 1]).attack()
    for each in (*again['attacks'], *result['attacks']):
        each.pop('seconds')
    assert again == result
    with pytest.raises(TypeError):  # another seed is another audit
        audit(finished, retrained=retrained, attacks=['prototype']).attack()


def test_without_a_control(finished):
    found = audit(finished, step=1, attacks=['redirection']).attack()
    assert set(found['classes']) == {'red', 'cyan'}
    (entry,) = found['attacks']
    assert entry['resisted'] is None and entry['separates'] is None
    text = render_audit(found)
    assert '**No control.**' in text and 'not asked for' in text


def test_a_second_retrained_model_passes(finished, retrained):
    """As if it were the candidate; every attack that separates says so."""
    first, second = retrained
    found = audit(
        finished,
        retrained=[first],
        candidate=second,
        attacks=['head_transplant', 'redirection'],
    ).attack()
    assert (finished / 'audit' / 'candidate.json').is_file()
    assert found['attacks'][0]['separates'] is True
    assert found['attacks'][0]['resisted'] is True


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(step=3), 'step = 3: .*finished are 1, 2'),
        (dict(attacks=['relerning']), "Did you mean 'relearning'"),
        (dict(attacks=['localisation']), 'has no boxes'),
        (dict(options=dict(probe={})), "options.*|attacks.*'probe'"),
        (
            dict(options=dict(relearning=dict(shots=0))),
            'options.relearning.shots = 0: must be an integer >= 1',
        ),
        (
            dict(options=dict(relearning=dict(trained='al'))),
            "options.relearning.trained = 'al': must be one of",
        ),
        (
            dict(options=dict(linear_probe=dict(shots=[5, 0]))),
            'options.linear_probe.shots = 0: must be an integer >= 1',
        ),
        (
            dict(options=dict(prototype=dict(mixing=[]))),
            r'options.prototype.mixing = \[\]: must be one value or more',
        ),
        (
            dict(options=dict(relearning=dict(shot=1))),
            "unexpected keyword argument 'shot'",
        ),
    ],
)
def test_bad_requests(finished, settings, message):
    with pytest.raises(ConfigError, match=message):
        audit(finished, **settings)


def test_one_value_where_there_may_be_several(finished):
    """As a command line gives it: ``--options linear_probe.shots=5``."""
    attacks = audit(
        finished,
        attacks=['linear_probe', 'relearning'],
        options=dict(
            linear_probe=dict(shots=5),
            relearning=dict(trained='head', iterations=[2, 1]),
        ),
    ).chosen
    probe, relearning = attacks
    assert probe.shots == (5,)
    assert relearning.trained == ('head',)
    assert relearning.iterations == (2, 1)


def test_more_shots_than_images(finished):
    options = dict(relearning=dict(shots=50))
    with pytest.raises(ConfigError, match='only 12 images show'):
        audit(finished, attacks=['relearning'], options=options).attack()


def test_a_control_that_knows_the_class(finished, class_inputs):
    knows = str(class_inputs / 'pretrained.pth')
    with pytest.raises(ConfigError, match='this model knows .*without cyan'):
        audit(finished, retrained=[knows]).attack()


@pytest.mark.parametrize(
    ('score', 'background', 'is_refused'),
    [(0.4, True, True), (0.2, True, False), (0.2, False, True)],
)
def test_what_a_detector_names_by_order_alone_it_does_not_know(
    finished, class_inputs, monkeypatch, score, background, is_refused
):
    """A row that is trained to be silent still ranks its class first."""
    found = audit(finished, attacks=['redirection'])
    knows = Suspect('retrained 1', 'control.pth', f'{score} {background}')
    rows = found.evidence.read(
        found.evidence.shell, found.evidence.validation
    )
    scores = torch.nn.functional.one_hot(rows.labels, len(CLASSES)) * score
    monkeypatch.setattr(
        found.evidence,
        'rows',
        lambda *_: dataclasses.replace(rows, probabilities=scores),
    )
    monkeypatch.setattr(found.evidence.task, 'has_background', background)
    if is_refused:
        with pytest.raises(ConfigError, match='it names 100.0 % of its obj'):
            found._check_retrained(knows)
    else:
        found._check_retrained(knows)


def test_small_images_are_read_once(finished, monkeypatch):
    evidence = audit(finished, attacks=['redirection']).evidence
    seen = []
    read = LabelledImages.__getitem__

    def counted(images, index):
        seen.append(index)
        return read(images, index)

    monkeypatch.setattr(LabelledImages, '__getitem__', counted)
    first = evidence.score(evidence.shell)
    times = len(seen)
    assert times > 0
    again = evidence.score(evidence.shell)
    assert len(seen) == times
    np.testing.assert_array_equal(first.overall, again.overall)
    evidence.forget_rows()
    monkeypatch.setattr('gslora_mm.audits.evidence.KEPT_BYTES', 0)
    for _ in range(2):
        once_more = evidence.score(evidence.shell)
    assert len(seen) >= 3 * (times - 1)
    np.testing.assert_array_equal(first.overall, once_more.overall)


def test_collateral_scores_each_model_once(
    result, finished, retrained, monkeypatch
):
    """And finds what two models scored one after the other differ by."""
    found = audit(finished, retrained=retrained, attacks=['collateral'])
    suspects, evidence = found.suspects(), found.evidence
    scored = []
    resampled = evidence._resampled
    monkeypatch.setattr(
        evidence,
        '_resampled',
        lambda *args: scored.append(args) or resampled(*args),
    )
    (attack,) = found.chosen
    (expected,) = entries(result, 'collateral')
    for suspect in suspects:
        ((_, outcome),) = attack.measure(evidence, suspect)
        if suspect.name == 'after':
            assert outcome.score == expected['after']
    assert len(scored) == len(suspects)


def test_a_control_of_another_architecture(finished, tmp_path):
    path = tmp_path / 'other.pth'
    save_stock_checkpoint(
        torch.nn.Linear(2, 2).state_dict(), dict(classes=CLASSES), path
    )
    with pytest.raises(ConfigError, match='retrained'):
        audit(finished, retrained=[str(path)]).attack()


def test_another_pretrained_model(finished, class_inputs):
    path = class_inputs / 'pretrained.pth'
    before = path.read_bytes()
    try:
        path.write_bytes(before + b'0')
        with pytest.raises(ConfigError, match='is not the file that this'):
            audit(finished)
    finally:
        path.write_bytes(before)


def test_not_a_work_dir(tmp_path):
    with pytest.raises(ConfigError, match='^work_dir'):
        audit(tmp_path)


def test_a_detector(inputs, tmp_path):
    cfg = tiny_sequence(
        inputs,
        tmp_path / 'run',
        forgetting__steps=[['one']],
        schedule__max_iters=1,
        schedule__checkpoint_interval=1,
    )
    ForgettingSequence(cfg).run()
    found = audit(tmp_path / 'run').attack()
    assert {each['name'] for each in found['not_run']} == {'verification'}
    depths = {
        each['setting']['depth'] for each in entries(found, 'linear_probe')
    }
    assert {'neck', 'encoder.0', 'decoder.0'} <= depths
    assert np.isfinite(entries(found, 'linear_probe')[0]['after'])


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
    init_default_scope('mmdet')
    val = tiny_sequence(inputs, tmp_path).val_dataloader.dataset.to_dict()
    val['pipeline'][-1]['meta_keys'] = ('img_id', 'img_shape')
    images = LabelledImages(build_dataset(val))
    with pytest.raises(ConfigError, match='scale_factor'):
        images[0]


def test_the_attack_of_the_docs(finished, retrained):
    page = Path(__file__).parents[2] / 'docs/en/adding_an_attack.md'
    code = re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL)[0]
    known_attacks()  # registers those of the package first
    try:
        exec(code, dict(__name__='example'))
        found = audit(
            finished,
            retrained=retrained,
            attacks=['second_guess'],
            options=dict(second_guess=dict(share=0.4)),
        ).attack()
    finally:
        ATTACKS.module_dict.pop('SecondGuess')
    (entry,) = found['attacks']
    assert entry['setting'] == dict(share=0.4)
    assert entry['pretrained'] > 0.9 and entry['separates'] is not None
