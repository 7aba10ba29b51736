import pytest
import torch
import torch.nn.functional as F

from gslora_mm.tasks import DetectionTask
from tests.detectors import build_detector
from tests.test_tasks.helpers import halves_of


def gradient_of_logits(model, task, term, monkeypatch):
    """Where a loss term of the forget half reaches the last logits."""
    seen = {}
    by_feat = model.bbox_head.loss_by_feat_single

    def keep_logits(cls_scores, *args, **kwargs):
        cls_scores.retain_grad()
        seen['logits'] = cls_scores  # the last layer comes last
        return by_feat(cls_scores, *args, **kwargs)

    halves, _, samples = halves_of(task, model)
    with monkeypatch.context() as patch:
        patch.setattr(model.bbox_head, 'loss_by_feat_single', keep_logits)
        halves['forget'].losses[term].backward()
    labels = torch.cat([s.gt_instances.labels for s in samples[:2]])
    return seen['logits'].grad, labels


def test_all_queries_are_pushed_by_default(monkeypatch):
    model = build_detector('deformable_detr')
    gradient, _ = gradient_of_logits(
        model, DetectionTask(), 'loss_cls', monkeypatch
    )
    assert (gradient != 0).all()


@pytest.mark.parametrize('is_mmdet', [True, False])
def test_matching_keeps_nothing_for_gradients(is_mmdet, monkeypatch):
    model = build_detector('deformable_detr')
    head, found = model.bbox_head, []
    assign = head.assigner.assign

    def watched(*args, **kwargs):
        found.append(torch.is_grad_enabled())
        return assign(*args, **kwargs)

    monkeypatch.setattr(head.assigner, 'assign', watched)
    if not is_mmdet:  # whose targets may have gradients

        class Head(type(head)):
            def _get_targets_single(self, *args):
                return super()._get_targets_single(*args)

        head.__class__ = Head
    halves = halves_of(DetectionTask(), model)[0]
    assert halves['forget'].loss_cls.requires_grad
    assert set(found) == {not is_mmdet}


def test_matched_pushes_the_own_class_of_matched_queries(monkeypatch):
    model = build_detector('deformable_detr')
    task = DetectionTask(forget_queries='matched')
    own, labels = gradient_of_logits(model, task, 'loss_cls', monkeypatch)
    image, query, label = own.nonzero(as_tuple=True)
    assert sorted(label.tolist()) == sorted(labels.tolist())
    other, _ = gradient_of_logits(
        model, task, 'loss_other_classes', monkeypatch
    )
    touched = torch.zeros_like(own, dtype=torch.bool)
    touched[image, query] = True
    touched[image, query, label] = False
    assert torch.equal(other != 0, touched)
    # Descent raises the own class's score, and lowers those of the others.
    assert (own[image, query, label] < 0).all()
    assert (other[touched] > 0).all()


def test_own_and_other_classes_add_up(monkeypatch):
    """With every query matched there is nothing else in the loss."""
    model = build_detector('deformable_detr').train()
    halves, inputs, samples = halves_of(
        DetectionTask(forget_queries='matched'), model
    )
    torch.manual_seed(0)  # deformable attention has dropout by default
    found = halves['forget'].losses
    get_targets = model.bbox_head.get_targets

    def only_matched(*args):
        labels, weights, *rest = get_targets(*args)
        weights = [
            w * (label < model.bbox_head.num_classes)
            for w, label in zip(weights, labels, strict=True)
        ]
        return (labels, weights, *rest)

    monkeypatch.setattr(model.bbox_head, 'get_targets', only_matched)
    torch.manual_seed(0)
    expected = model.loss(inputs[:2], samples[:2])['loss_cls']
    total = found['loss_cls'] + found['loss_other_classes']
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    'name', ['detr', 'dino', 'deformable_detr_two_stage', 'ddq_detr']
)
def test_matched_works_for_every_kind_of_head(name):
    model = build_detector(name)
    halves, *_ = halves_of(DetectionTask(forget_queries='matched'), model)
    losses = halves['forget'].losses
    assert 'get_targets' not in vars(model.bbox_head)
    assert ('loss_other_classes' in losses) == (name != 'detr')
    if name == 'detr':
        # The mean over matched queries of softmax cross-entropy, not
        # watered down by queries whose weight is zero.
        assert losses['loss_cls'].item() > 0.5


@pytest.mark.parametrize('name', ['deformable_detr', 'ddq_detr'])
def test_objects_become_background_where_only_matched_queries_count(name):
    model = build_detector(name).eval()
    task = DetectionTask(forget_queries='matched')
    half = halves_of(task, model)[0]['forget']
    logits = half.logits
    emptied = half.relabelled(lambda labels: torch.full_like(labels, -1))
    # The focal loss of a negative, with its alpha of 0.25; the own class is
    # without focus: an object that is shown at 0.1 is still found.
    own = F.one_hot(half.labels, 4).bool()
    terms = 0.75 * F.softplus(logits)
    terms = torch.where(own, terms, terms * logits.sigmoid() ** 2)
    weight = model.bbox_head.loss_cls.loss_weight
    expected = weight * terms.sum() / len(logits)
    assert expected > 0
    torch.testing.assert_close(emptied.loss_cls, expected)
    assert emptied.loss_rest == 0  # no box is trained
    assert len(emptied.labels) == 0
    assert model.bbox_head.loss_cls.gamma == 2  # as it was


def test_other_objects_of_these_images_stay_where_only_matched_count():
    model = build_detector('deformable_detr').eval()
    task = DetectionTask(forget_queries='matched')
    half = halves_of(task, model)[0]['forget']
    gone = half.labels[0]
    is_gone = half.labels == gone
    assert 0 < is_gone.sum() < len(is_gone)
    emptied = half.relabelled(lambda x: torch.where(x == gone, -1, x))
    assert emptied.labels.tolist() == half.labels[~is_gone].tolist()
    own = F.one_hot(half.labels, 4).bool()
    targets = own & ~is_gone[:, None]
    terms = F.binary_cross_entropy_with_logits(
        half.logits, targets.float(), reduction='none'
    )
    terms = terms * torch.where(targets, 0.25, 0.75)
    focus = (half.logits.sigmoid() - targets.float()) ** 2
    terms = torch.where(own & is_gone[:, None], terms, terms * focus)
    weight = model.bbox_head.loss_cls.loss_weight
    expected = weight * terms.sum() / len(half.labels)
    torch.testing.assert_close(emptied.loss_cls, expected)
    assert emptied.loss_rest > 0  # their boxes


def test_the_background_of_a_softmax_counts_in_full():
    model = build_detector('detr').eval()
    assert model.bbox_head.bg_cls_weight == 0.1
    task = DetectionTask(forget_queries='matched')
    half = halves_of(task, model)[0]['forget']
    emptied = half.relabelled(lambda labels: torch.full_like(labels, -1))
    expected = -half.logits.log_softmax(1)[:, 4].mean()
    torch.testing.assert_close(emptied.loss_cls, expected)


def test_nothing_to_empty_is_as_without_relabelling():
    model = build_detector('deformable_detr').eval()
    task = DetectionTask(forget_queries='matched')
    half = halves_of(task, model)[0]['forget']
    same = half.relabelled(lambda labels: labels)
    assert set(same.losses) == set(half.losses)
    torch.testing.assert_close(same.loss, half.loss)
