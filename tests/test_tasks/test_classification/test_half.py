import pytest
import torch
import torch.nn.functional as F

from gslora_mm.tasks import ClassificationTask
from tests.classifiers import CLASSIFIERS, SIZES, build_classifier
from tests.test_tasks.helpers import arc_face, halves_of


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_a_half_is_an_ordinary_batch(name):
    model = build_classifier(name).train()
    task = ClassificationTask()
    task.check_model(model)
    halves, inputs, samples = halves_of(task, model, SIZES[name])
    parts = dict(forget=slice(0, 2), retain=slice(2, 4))
    for role, part in parts.items():
        half = halves[role]
        expected = model.loss(inputs[part], samples[part])['loss']
        torch.testing.assert_close(half.loss, expected)
        torch.testing.assert_close(half.loss_cls, expected)
        assert half.loss_rest == 0
        assert half.labels.tolist() == [int(s.gt_label) for s in samples[part]]
        torch.testing.assert_close(half.logits, model(inputs[part]))
        # The features are what the class layer sees.
        layer = getattr(model.head, 'fc', None) or model.head.layers.head
        logits = F.linear(half.features, task.class_weights(model), layer.bias)
        torch.testing.assert_close(half.logits, logits)
        assert half.features.requires_grad


def test_a_half_is_computed_once_and_only_if_asked(monkeypatch):
    model = build_classifier('deit')
    extract_feat, calls = model.extract_feat, []

    def count(inputs):
        calls.append(len(inputs))
        return extract_feat(inputs)

    monkeypatch.setattr(model, 'extract_feat', count)
    halves, *_ = halves_of(ClassificationTask(), model)
    assert not calls
    half = halves['forget']
    (half.loss + half.features.sum() + half.logits.sum()).backward()
    assert len(half.labels) == 2 and calls == [2]


def test_accuracies_are_no_losses():
    model = build_classifier(
        'deit', cal_acc=True, loss=dict(type='CrossEntropyLoss')
    )
    model.data_preprocessor.to_onehot = False
    halves, inputs, samples = halves_of(ClassificationTask(), model)
    expected = model.loss(inputs[:2], samples[:2])
    assert 'accuracy_top-1' in expected
    assert set(halves['forget'].losses) == {'loss'}
    assert halves['forget'].loss.item() == expected['loss'].item()


def test_other_losses_are_told_apart(monkeypatch):
    model = build_classifier('deit')
    loss = model.head.loss

    def with_auxiliary(*args):
        found = loss(*args)
        return {**found, 'loss_aux': 2 * found['loss'].detach() + 1}

    monkeypatch.setattr(model.head, 'loss', with_auxiliary)
    half = halves_of(ClassificationTask(), model)[0]['forget']
    assert half.loss_rest == 2 * half.loss_cls.detach() + 1
    assert half.loss == half.loss_cls + half.loss_rest


def test_margins_are_in_the_loss_alone():
    model = arc_face().train()
    half = halves_of(ClassificationTask(), model)[0]['forget']
    cosine = F.linear(
        F.normalize(half.features),
        F.normalize(ClassificationTask().class_weights(model)),
    )
    torch.testing.assert_close(half.logits, 64 * cosine)
    own = cosine.gather(1, half.labels[:, None])
    with_margin = torch.where(
        own > torch.cos(torch.tensor(torch.pi - 0.5)),
        torch.cos(own.acos() + 0.5),
        own - 0.5 * torch.sin(torch.tensor(torch.pi - 0.5)),
    )
    logits = 64 * cosine.scatter(1, half.labels[:, None], with_margin)
    expected = F.cross_entropy(logits, half.labels)
    torch.testing.assert_close(half.loss_cls, expected)
    assert half.loss_cls > F.cross_entropy(half.logits, half.labels)


def test_the_head_runs_in_full_precision():
    model = arc_face()  # refuses bfloat16 features on its own
    half = halves_of(ClassificationTask(), model)[0]['forget']
    with torch.autocast('cpu', torch.bfloat16):
        values = (half.loss_cls, half.features, half.logits)
    assert all(value.dtype == torch.float32 for value in values)


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_seen_by_a_model_in_evaluation_mode(name):
    """By itself, and by another one of the same kind."""
    model, other = (build_classifier(name, seed=i).eval() for i in (0, 1))
    halves, inputs, _ = halves_of(ClassificationTask(), model, SIZES[name])
    half = halves['retain']
    own = half.seen_by(model)
    torch.testing.assert_close(own.features, half.features)
    torch.testing.assert_close(own.logits, half.logits)
    seen = half.seen_by(other)
    torch.testing.assert_close(seen.logits, other(inputs[2:]))
    assert not torch.allclose(seen.logits, own.logits)
    assert seen.features.shape == own.features.shape
    layer = getattr(other.head, 'fc', None) or other.head.layers.head
    torch.testing.assert_close(layer(seen.features), seen.logits)


def test_seen_by_another_state_of_the_model():
    """What the half has computed before does not matter."""
    model = build_classifier('deit').eval()
    half = halves_of(ClassificationTask(), model)[0]['retain']
    before = half.logits.clone()
    with torch.no_grad():
        model.backbone.layers[0].ffn.layers[1].weight *= 2
    assert not torch.allclose(half.seen_by(model).logits, before)
    assert torch.equal(half.logits, before)


def test_scores_of_one_image_add_up_to_one():
    half = halves_of(ClassificationTask(), build_classifier('vit'))[0]
    assert half['forget'].activation == 'softmax'


@pytest.mark.parametrize('one_hot', [True, False])
def test_relabelled(one_hot):
    loss = dict(type='CrossEntropyLoss', use_soft=one_hot)
    model = build_classifier('deit', loss=loss)
    model.data_preprocessor.to_onehot = one_hot
    halves, inputs, samples = halves_of(ClassificationTask(), model)
    half = halves['forget']
    labels, loss = half.labels.tolist(), half.loss.item()
    other = half.relabelled(lambda labels: (labels + 1) % 4)
    assert other.labels.tolist() == [(label + 1) % 4 for label in labels]
    expected = F.cross_entropy(model(inputs[:2]), other.labels)
    torch.testing.assert_close(other.loss, expected)
    assert other.role == 'forget' and len(other) == 2
    # The half is what it was, and so are the samples that it came from.
    assert half.labels.tolist() == labels
    assert [int(sample.gt_label) for sample in samples[:2]] == labels
    again = halves_of(ClassificationTask(), model)[0]['forget']
    assert half.loss.item() == again.loss.item() == loss


def test_outputs_of_another_state_of_the_model():
    """All that a classifier says are the logits of its rows."""
    model = build_classifier('vit').eval()
    half = halves_of(ClassificationTask(), model)[0]['retain']
    is_kept = torch.tensor([False] + [True] * (half.logits.shape[1] - 1))
    own = half.outputs_of(model)
    torch.testing.assert_close(own, half.logits)
    assert half.distance_to(own, is_kept).abs() < 1e-6
    other = own.clone()
    other[:, 0] += 5
    assert half.distance_to(other, is_kept).abs() < 1e-6
    other[:, 1] += 5
    assert half.distance_to(other, is_kept) > 0.1
    p = half.logits.softmax(1)[:, 0]
    expected = -(1 - p).log().mean().item()
    assert half.presence_of(own, ~is_kept).item() == pytest.approx(expected)
    # Where the other model gives next to nothing of it, that is the distance.
    ruled_out = half.distance_to(own, is_kept, ruled_out=True).item()
    assert ruled_out == pytest.approx(expected, abs=0.02)
