import copy
import inspect

import pytest
import torch

from gslora_mm.tasks import DetectionTask
from tests.detectors import DETECTORS, build_detector, random_batch
from tests.test_tasks.helpers import halves_of

LAST_LAYER = {'loss_cls', 'loss_bbox', 'loss_iou'}


@pytest.mark.parametrize('name', DETECTORS)
def test_a_half_has_the_losses_of_an_ordinary_batch(name):
    model = build_detector(name).train()
    task = DetectionTask(aux_loss=dict(retain=True))
    halves, inputs, samples = halves_of(task, model)
    parts = dict(forget=slice(0, 2), retain=slice(2, 4))
    for role, part in parts.items():
        torch.manual_seed(0)  # for dropout and denoising queries
        expected = model.loss(inputs[part], samples[part])
        # Those of DDQ-DETR's dense queries come image by image.
        expected = {
            key: sum(loss) if isinstance(loss, list) else loss
            for key, loss in expected.items()
        }
        torch.manual_seed(0)
        found = halves[role].losses
        wanted = LAST_LAYER if role == 'forget' else set(expected)
        assert set(found) == wanted
        for key in wanted:
            # Channels-last or blocked kernels may round a batch differently.
            assert found[key].item() == pytest.approx(
                expected[key].item(), rel=1e-4
            )
        total = sum(expected[key] for key in wanted)
        assert halves[role].loss.item() == pytest.approx(
            total.item(), rel=1e-4
        )


@pytest.mark.parametrize('name', DETECTORS)
def test_the_head_runs_in_full_precision(name):
    """The focal loss of a score of -18 is no number in float16."""
    model = build_detector(name).train()
    teacher = copy.deepcopy(model).eval()
    with torch.autocast('cpu', torch.bfloat16):
        halves, *_ = halves_of(DetectionTask(dict(retain=True)), model)
        for half in halves.values():
            seen = half.seen_by(teacher)
            for value in (half.logits, half.features, seen.logits):
                assert value.dtype == torch.float32
            assert half.loss_background.dtype == torch.float32
            for loss in half.losses.values():
                assert loss.dtype == torch.float32


def test_auxiliary_losses_are_off_by_default():
    halves, *_ = halves_of(DetectionTask(), build_detector('deformable_detr'))
    assert set(halves['retain'].losses) == LAST_LAYER
    assert set(halves['forget'].losses) == LAST_LAYER


@pytest.mark.parametrize('queries', ['all', 'matched'])
@pytest.mark.parametrize('name', DETECTORS)
def test_only_what_counts_is_matched(name, queries, monkeypatch):
    """Each image once, for the last layer; with auxiliary losses for all."""
    model = build_detector(name).train()
    assigner = model.bbox_head.assigner
    assign, counts = assigner.assign, []
    monkeypatch.setattr(
        assigner, 'assign', lambda *a, **k: counts.append(1) or assign(*a, **k)
    )
    task = DetectionTask(dict(retain=True), forget_queries=queries)
    halves, *_ = halves_of(task, model)
    numbers = {}
    for role, half in halves.items():
        counts.clear()
        assert half.loss.isfinite()
        numbers[role] = len(counts)
    has_proposals = getattr(model, 'as_two_stage', False)
    layers = model.decoder.num_layers + has_proposals
    assert numbers == dict(forget=2, retain=2 * layers)
    gone = halves['forget'].relabelled(lambda x: torch.full_like(x, -1))
    counts.clear()
    assert gone.loss.isfinite() and len(counts) == 2
    assert 'loss_by_feat_single' not in vars(model.bbox_head)


def test_nothing_is_computed_unasked(monkeypatch):
    model = build_detector('deformable_detr')
    monkeypatch.setattr(model, 'forward_transformer', None)
    halves_of(DetectionTask(), model)


def class_layer_of(model):
    head = model.bbox_head
    # Two decoder layers; of a third branch the encoder's proposals come.
    return (
        head.cls_branches[1]
        if hasattr(head, 'cls_branches')
        else (head.fc_cls)
    )


@pytest.mark.parametrize('queries', ['all', 'matched'])
@pytest.mark.parametrize('name', DETECTORS)
def test_features_are_those_of_matched_queries(name, queries, monkeypatch):
    model = build_detector(name).train()
    layer = class_layer_of(model)
    if hasattr(model.bbox_head, 'cls_branches'):
        for number, branch in enumerate(model.bbox_head.cls_branches):
            torch.nn.init.constant_(branch.bias, number)  # tell them apart
    forward, calls = model.forward_transformer, []

    def count(*args):
        calls.append(args)
        return forward(*args)

    monkeypatch.setattr(model, 'forward_transformer', count)
    task = DetectionTask(forget_queries=queries)
    halves, _, samples = halves_of(task, model)
    half = halves['forget']
    # One query is matched to each object: those of denoising do not count.
    truth = torch.cat([s.gt_instances.labels for s in samples[:2]])
    assert sorted(half.labels.tolist()) == sorted(truth.tolist())
    assert half.features.shape == (len(truth), model.embed_dims)
    columns = 4 if half.activation == 'sigmoid' else 5  # with the background
    assert half.logits.shape == (len(truth), columns)
    weights = task.class_weights(model)
    assert weights.shape == (4, model.embed_dims)
    assert not weights.requires_grad
    expected = layer(half.features)
    torch.testing.assert_close(half.logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights, layer.weight[:4])
    (half.loss + half.features.sum() + half.logits.sum()).backward()
    assert len(calls) == 1
    weights += 1
    assert not torch.equal(weights, layer.weight[:4])


def test_queries_are_matched_for_the_last_layer_loss(monkeypatch):
    """The labels are those that the loss of this layer was made from."""
    model = build_detector('deformable_detr').train()
    head = type(model.bbox_head)
    get_targets, assigned = head.get_targets, []

    def keep(self, *args):
        targets = get_targets(self, *args)
        assigned.append(torch.stack(targets[0]))
        return targets

    monkeypatch.setattr(head, 'get_targets', keep)
    halves, *_ = halves_of(DetectionTask(), model)
    half = halves['forget']
    labels = half.labels.tolist()
    last = assigned[-1]
    assert len(assigned) == 1 and labels == last[last < 4].tolist()


def predictions(model, inputs, samples):
    """Embeddings and scores of all queries, as at test time."""
    found = model.forward_transformer(model.extract_feat(inputs), samples)
    names = inspect.signature(model.bbox_head.forward).parameters
    scores = model.bbox_head(**{key: found[key] for key in names})[0][-1]
    hidden = found['hidden_states'][-1]
    return hidden.flatten(0, 1), scores.flatten(0, 1)


@pytest.mark.parametrize('name', DETECTORS)
def test_seen_by_a_model_in_evaluation_mode(name):
    """By itself, and by another one: the same queries, row by row."""
    model, other = (build_detector(name, seed=i).eval() for i in (0, 1))
    halves, inputs, samples = halves_of(DetectionTask(), model)
    half = halves['retain']
    own = half.seen_by(model)
    torch.testing.assert_close(own.features, half.features)
    torch.testing.assert_close(own.logits, half.logits)
    hidden, scores = predictions(model, inputs[2:], samples[2:])
    index = torch.cdist(half.features, hidden).argmin(1)
    torch.testing.assert_close(own.features, hidden[index])
    torch.testing.assert_close(own.logits, scores[index])
    # Denoising is for training alone, and its queries are not among them.
    seen = half.seen_by(other)
    if not getattr(model, 'as_two_stage', False):
        hidden, scores = predictions(other, inputs[2:], samples[2:])
        torch.testing.assert_close(seen.features, hidden[index])
        torch.testing.assert_close(seen.logits, scores[index])
    assert not torch.allclose(seen.logits, own.logits)
    assert not (model.training or other.training)


@pytest.mark.parametrize(
    'name', ['deformable_detr_two_stage', 'dino', 'ddq_detr']
)
def test_another_model_is_asked_about_the_boxes_that_this_one_chose(name):
    model = build_detector(name).eval()
    other = copy.deepcopy(model)
    # It would choose others, and is the same from there on.
    of_encoder = other.bbox_head.cls_branches[model.decoder.num_layers]
    torch.nn.init.normal_(of_encoder.weight)
    halves, inputs, samples = halves_of(DetectionTask(), model)
    half = halves['retain']
    seen = half.seen_by(other)
    torch.testing.assert_close(seen.features, half.features)
    torch.testing.assert_close(seen.logits, half.logits)
    own = predictions(other, inputs[2:], samples[2:])[0]
    assert torch.cdist(half.features, own).min(1).values.max() > 1e-3
    # Denoising queries stand before the others in training.
    half = halves_of(DetectionTask(), model.train())[0]['retain']
    assert half.seen_by(other.train()).logits.shape == half.logits.shape
    # Nothing is left behind on either.
    assert 'pre_decoder' not in {**vars(model), **vars(other)}


def put_out(model, inputs, samples, monkeypatch):
    """Scores of the queries that a detector makes detections of, by image."""
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(
            model.bbox_head,
            '_predict_by_feat_single',
            lambda scores, *_: found.append(scores),
        )
        feats = model.extract_feat(inputs)
        model.bbox_head.predict(
            **model.forward_transformer(feats, samples),
            batch_data_samples=samples,
        )
    return found


@pytest.mark.parametrize('name', ['dino', 'ddq_detr'])
def test_queries_are_those_that_are_put_out(name, monkeypatch):
    model = build_detector(name).eval()
    halves, inputs, samples = halves_of(DetectionTask(), model)
    wanted = put_out(model, inputs, samples, monkeypatch)
    numbers = [10] * 4 if name == 'dino' else [3, 10, 5, 4]
    assert [len(scores) for scores in wanted] == numbers
    for half, scores in zip(
        halves.values(), (wanted[:2], wanted[2:]), strict=True
    ):
        scores = torch.cat(scores)
        torch.testing.assert_close(half._outputs.scores, scores)
        found, boxes = half.outputs_of(model)
        torch.testing.assert_close(found, scores)
        torch.testing.assert_close(boxes, half._outputs.boxes)
        view = half.view_of(model)
        for layers in (half.layers, view.layers):
            assert len(layers['decoder.1']) == len(scores)
            assert len(layers['encoder.1']) == 2


def test_another_model_leaves_out_the_queries_that_this_one_left_out():
    """Else row i of one would be another query of the other."""
    model = build_detector('ddq_detr').eval()
    other = copy.deepcopy(model)
    for number in (0, 2):  # the first layer's, and the encoder's
        torch.nn.init.normal_(other.bbox_head.cls_branches[number].weight)
    half = halves_of(DetectionTask(), model)[0]['retain']
    assert len(half._outputs.scores) == 5 + 4
    is_kept = torch.ones(4, dtype=torch.bool)
    distance = half.distance_to(half.outputs_of(other), is_kept)
    assert abs(distance.item()) < 1e-4
    view, own = half.view_of(other), half.layers
    for depth, found in view.layers.items():
        torch.testing.assert_close(found, own[depth])
    nothing = torch.zeros(4, dtype=torch.bool)
    painted = half.without_objects(nothing).view_of(other)
    torch.testing.assert_close(painted.outputs, view.outputs)


@pytest.mark.parametrize('is_training', [True, False])
def test_ddq_detr_is_left_as_it_was(is_training):
    """Its decoder borrows branches of the head to compute its losses."""
    from mmcv.ops import batched_nms
    from mmdet.models.detectors import ddq_detr
    from mmdet.models.layers.transformer import ddq_detr_layers

    model = build_detector('ddq_detr').train(is_training)
    keys = list(model.state_dict())
    half = halves_of(DetectionTask(dict(retain=True)), model)[0]['retain']
    half.loss.backward()
    half.seen_by(model)
    assert list(model.state_dict()) == keys
    assert model.bbox_head.aux_reg_branches[0][-1].weight.grad.any()
    assert all(m.training == is_training for m in model.decoder.modules())
    assert ddq_detr.batched_nms is ddq_detr_layers.batched_nms is batched_nms


@pytest.mark.parametrize('name', ['detr', 'dino', 'ddq_detr'])
def test_losses_are_those_of_training_in_evaluation_mode_too(name):
    """A method may have any part of a model in that mode."""
    task = DetectionTask(dict(retain=True))
    found = []
    for is_training in (True, False):
        model = build_detector(name).train(is_training)
        half = halves_of(task, model)[0]['retain']
        torch.manual_seed(0)  # for denoising queries
        found.append(half.losses)
    assert found[0].keys() == found[1].keys()
    for key, loss in found[0].items():
        torch.testing.assert_close(found[1][key], loss)


def test_seen_by_itself_the_frozen_trunk_is_not_run_again(monkeypatch):
    model = build_detector('deformable_detr').requires_grad_(False).eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    # Another model has its own trunk, of course.
    other = copy.deepcopy(model)
    other.neck.convs[0].conv.weight.normal_()
    assert not torch.allclose(half.seen_by(other).logits, half.logits)
    monkeypatch.setattr(model, 'extract_feat', None)
    torch.testing.assert_close(half.seen_by(model).logits, half.logits)


def test_seen_by_itself_with_another_trunk():
    """Feature maps of a trunk that is trained are not the teacher's."""
    model = build_detector('deformable_detr').eval()
    halves, inputs, samples = halves_of(DetectionTask(), model)
    half = halves['retain']
    before = half.logits.clone()
    with torch.no_grad():
        model.neck.convs[0].conv.weight.normal_()
    hidden, scores = predictions(model, inputs[2:], samples[2:])
    seen = half.seen_by(model)
    assert (torch.cdist(seen.features, hidden).min(1).values < 1e-3).all()
    assert not torch.allclose(seen.logits, before)


@pytest.mark.parametrize(
    'name', ['detr', 'deformable_detr', 'dino', 'ddq_detr']
)
def test_seen_by_of_images_without_objects(name):
    model = build_detector(name).eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    half = half.relabelled(lambda labels: torch.full_like(labels, -1))
    assert len(half) == 2 and len(half.labels) == 0
    seen = half.seen_by(model)
    assert seen.features.shape == (0, model.embed_dims)
    assert seen.logits.shape == (0, 5 if name == 'detr' else 4)
    assert half.loss.isfinite()


@pytest.mark.parametrize('name', DETECTORS)
def test_activation_is_that_of_the_head(name):
    half = halves_of(DetectionTask(), build_detector(name))[0]['forget']
    expected = 'softmax' if name == 'detr' else 'sigmoid'
    assert half.activation == expected


@pytest.mark.parametrize(
    'name', ['detr', 'deformable_detr', 'dino', 'ddq_detr']
)
def test_relabelled(name):
    model = build_detector(name).train()
    halves, inputs, samples = halves_of(DetectionTask(), model)
    half = halves['retain']
    before = [s.gt_instances.labels.clone() for s in samples[2:]]
    loss = half.loss.item()
    gone = before[0][0]  # this class becomes background

    def draw(labels):
        return torch.where(labels == gone, -1, (labels + 1) % 4)

    other = half.relabelled(draw)
    wanted = torch.cat([(b[b != gone] + 1) % 4 for b in before])
    assert 0 < len(wanted) < len(half.labels)
    torch.manual_seed(0)  # for dropout and denoising queries
    found = other.loss.item()
    assert sorted(other.labels.tolist()) == sorted(wanted.tolist())
    # The half is what it was, and so are the samples that it came from.
    for sample, labels in zip(samples[2:], before, strict=True):
        assert torch.equal(sample.gt_instances.labels, labels)
    assert half.loss.item() == loss
    for sample, labels in zip(samples[2:], before, strict=True):
        kept = sample.gt_instances[labels != gone]
        kept.labels = (kept.labels + 1) % 4
        sample.gt_instances = kept
    torch.manual_seed(0)
    expected = model.loss(inputs[2:], samples[2:])
    total = sum(expected[key] for key in LAST_LAYER)
    assert found == pytest.approx(total.item(), rel=1e-4)


def test_relabelled_is_read_anew():
    """Both can be back-propagated, one after the other."""
    model = build_detector('deformable_detr').train()
    batch = model.data_preprocessor(random_batch(2), True)
    features = [
        feature.detach().requires_grad_()
        for feature in model.extract_feat(batch['inputs'])
    ]
    half = DetectionTask().half(
        model,
        batch['inputs'],
        tuple(features),
        batch['data_samples'],
        torch.arange(2),
        'forget',
    )
    half.loss.backward()
    first = features[0].grad.clone()
    half.relabelled(lambda labels: (labels + 1) % 4).loss.backward()
    assert not torch.allclose(features[0].grad, first)


def test_some_objects_of_a_class_cannot_be_emptied():
    model = build_detector('deformable_detr').eval()
    task = DetectionTask(forget_queries='matched')
    half = halves_of(task, model)[0]['forget']
    gone = half.labels[0]
    with pytest.raises(ValueError, match='all objects of a class'):
        half.relabelled(
            lambda x: torch.where(x == gone, -1, gone.expand_as(x))
        )


@pytest.mark.parametrize('name', ['deformable_detr', 'dino', 'ddq_detr'])
def test_background_is_what_queries_without_an_object_cost(name):
    """Added up with the queries that have one, it is the whole."""
    model = build_detector(name).train()
    half = halves_of(DetectionTask(), model)[0]['retain']
    head = model.bbox_head
    rows = head.loss_cls(
        half.logits, half.labels, avg_factor=max(len(half.labels), 1)
    )
    assert half.loss_background > 0
    torch.testing.assert_close(rows + half.loss_background, half.loss_cls)


def test_a_detector_that_shows_nothing_has_no_background_loss():
    model = build_detector('deformable_detr').eval()
    task = DetectionTask()
    for branch in model.bbox_head.cls_branches:
        torch.nn.init.zeros_(branch.weight)
        torch.nn.init.constant_(branch.bias, -30)
    half = halves_of(task, model)[0]['retain']
    assert half.loss_background < 1e-6 < half.loss_cls


@pytest.mark.parametrize('name', DETECTORS)
def test_distance_to_itself_and_to_another_model(name):
    model, other = (build_detector(name, seed=i).eval() for i in (0, 1))
    half = halves_of(DetectionTask(), model)[0]['retain']
    is_kept = torch.tensor([False, True, True, True])
    own = half.distance_to(half.outputs_of(model), is_kept)
    assert own.shape == () and abs(own.item()) < 1e-4
    away = half.distance_to(half.outputs_of(other), is_kept)
    assert away > 0.01 and away.requires_grad


def test_distance_is_of_boxes_and_of_classes_that_are_kept():
    model = build_detector('deformable_detr').eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    is_kept = torch.tensor([False, True, True, True])
    scores, boxes = half.outputs_of(model)
    forgotten = scores.clone()
    forgotten[..., 0] += 3
    assert half.distance_to((forgotten, boxes), is_kept).abs() < 1e-4
    kept = scores.clone()
    kept[..., 1] += 3
    assert half.distance_to((kept, boxes), is_kept) > 0.1
    shifted = boxes + torch.tensor([0.05, 0.0, 0.0, 0.0])
    near = half.distance_to((scores, shifted), is_kept)
    far = half.distance_to((scores, boxes + 2 * (shifted - boxes)), is_kept)
    assert 0 < near < far
    # Where the other model finds nothing that is kept, no box is held.
    nothing = scores.clone()
    nothing[..., 1:] = -30.0
    held = half.distance_to((nothing, shifted), is_kept)
    assert held.item() == pytest.approx(
        half.distance_to((nothing, boxes), is_kept).item(), rel=1e-4
    )


@pytest.mark.parametrize('name', DETECTORS)
def test_a_view_has_the_outputs_of_every_decoder_layer(name):
    model = build_detector(name).eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    is_kept = torch.tensor([False, True, True, True])
    scores, boxes = half.view_of(model).outputs
    assert len(scores) == len(boxes) == model.decoder.num_layers
    last = half.outputs_of(model)
    for of_all, each in zip((scores, boxes), last, strict=True):
        torch.testing.assert_close(of_all[-1], each)
    assert half.distance_to((scores, boxes), is_kept).abs() < 1e-4
    # A layer that is not the last one counts, too.
    other = scores.clone()
    other[0, ..., 1] = 3.0
    assert half.distance_to((other, boxes), is_kept) > 0.1


@pytest.mark.parametrize('name', ['detr', 'deformable_detr'])
def test_what_is_ruled_out_counts(name):
    model = build_detector(name).eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    is_kept = torch.tensor([False, True, True, True])
    outputs = half.outputs_of(model)
    free = half.distance_to(outputs, is_kept)
    ruled_out = half.distance_to(outputs, is_kept, ruled_out=True)
    assert ruled_out > free + 0.01
    (gradient,) = torch.autograd.grad(ruled_out, half._outputs.by_layer[0])
    assert (gradient[-1, ..., 0] > 0).all()


def test_the_neck_is_a_layer_where_it_is_trained():
    model = build_detector('deformable_detr').eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    cells = half.layers['neck']
    torch.testing.assert_close(half.view_of(model).layers['neck'], cells)
    assert cells.requires_grad
    model.backbone.requires_grad_(False)
    model.neck.requires_grad_(False)
    half = halves_of(DetectionTask(), model)[0]['retain']
    assert 'neck' not in half.layers


@pytest.mark.parametrize('name', ['detr', 'deformable_detr'])
def test_presence_is_of_what_the_other_model_finds(name):
    model = build_detector(name).eval()
    half = halves_of(DetectionTask(), model)[0]['retain']
    is_gone = torch.tensor([True, False, False, False])
    scores, boxes = half.outputs_of(model)
    found = half.presence_of((scores, boxes), is_gone)
    assert half.presence_of((scores, boxes), is_gone, margin=2.0) > found > 0
    nothing = scores.clone()
    nothing[..., 0] = -30.0
    assert half.presence_of((nothing, boxes), is_gone) < 1e-4
    # Without another model, this one says where they are.
    own = (half._outputs.scores, boxes)
    torch.testing.assert_close(
        half.presence_of(None, is_gone), half.presence_of(own, is_gone)
    )
    (gradient,) = torch.autograd.grad(found, half._outputs.scores)
    assert (gradient[..., 0] > 0).all()
