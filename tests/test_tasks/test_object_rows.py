"""What a model makes of every object, at several depths."""

import copy

import pytest
import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

from gslora_mm.tasks import ClassificationTask, DetectionTask
from gslora_mm.tasks.detection.queries import asked_queries
from gslora_mm.tasks.detection.rows import _cells_in, head_outputs
from tests.classifiers import build_classifier
from tests.detectors import build_detector, random_batch

DETECTORS = (
    'detr',
    'deformable_detr_two_stage',
    'dino',
    'ddq_detr',
    'dab_detr',
    'conditional_detr',
)


@pytest.mark.parametrize('name', DETECTORS)
def test_a_row_an_object_in_order(name):
    model, batch = build_detector(name, dropout=0.5).eval(), random_batch(3)
    with torch.no_grad():
        rows = DetectionTask().object_rows(model, batch)
        again = DetectionTask().object_rows(model, random_batch(3))
    labels = [s.gt_instances.labels for s in batch['data_samples']]
    assert torch.equal(rows.labels, torch.cat(labels))
    assert list(rows.features) == [
        'neck', 'encoder.0', 'encoder.1', 'decoder.0', 'decoder.1'
    ]  # fmt: skip
    for depth, found in rows.features.items():
        assert found.shape[0] == len(rows.labels)
        torch.testing.assert_close(found, again.features[depth])
    # The last depth is what the class layer reads.
    torch.testing.assert_close(
        DetectionTask().logits_of(model, rows.embedding), rows.logits
    )
    assert rows.probabilities.min() >= 0
    assert rows.found.shape == rows.labels.shape


def test_finds_whatever_box_lies_over_an_object():
    model, batch = build_detector('detr').eval(), random_batch(2)
    task = DetectionTask()
    with torch.no_grad():
        rows = task.object_rows(model, batch)
        assert not rows.found.any()  # random boxes are elsewhere
        data = model.data_preprocessor(batch)
        samples = model.predict(
            data['inputs'], copy.deepcopy(data['data_samples']), rescale=False
        )
        for sample, other in zip(samples, batch['data_samples'], strict=True):
            boxes = sample.pred_instances.bboxes[: len(other.gt_instances)]
            other.gt_instances.bboxes = boxes
        rows = task.object_rows(model, batch)
    # Of any class; and the query is the one that lies there.
    assert (rows.found >= rows.probabilities.amax(1) - 1e-6).all()
    assert rows.found.all()


def test_averages_over_the_cells_in_a_box():
    maps = (torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 1, 2))
    boxes = torch.tensor(
        [[0.0, 0.0, 20.0, 9.0], [11.0, 1.0, 12.0, 2.0], [0, 0, 40.0, 20]]
    )
    weights = _cells_in(boxes, maps, (20, 40))
    # Cells of 10 x 10 px, centres at 5, 15, ...; then two of 20 x 20.
    assert weights[0].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0, 0, 0]
    # No centre is in the second: the nearest one.
    assert weights[1].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(weights[2], torch.full((10,), 0.1))


def test_images_without_objects_have_no_rows():
    model, batch = build_detector('deformable_detr').eval(), random_batch(2)
    full = DetectionTask().object_rows(model, batch)
    for sample in batch['data_samples']:
        sample.gt_instances = sample.gt_instances[:0]
    rows = DetectionTask().object_rows(model, batch)
    assert not len(rows.labels)
    assert rows.features.keys() == full.features.keys()
    joined = full.concatenate([rows, full])
    assert torch.equal(joined.labels, full.labels)


@pytest.mark.parametrize('name', ['deit', 'swin'])
def test_a_row_an_image(name):
    model = build_classifier(name, 5).eval()
    inputs = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(i) for i in (4, 0, 2)]
    batch = dict(inputs=list(inputs), data_samples=samples)
    task = ClassificationTask()
    with torch.no_grad():
        rows = task.object_rows(model, batch)
    assert rows.labels.tolist() == [4, 0, 2]
    assert list(rows.features)[0] == 'patch_embed'
    assert len(rows.features) >= 4
    assert all(len(found) == 3 for found in rows.features.values())
    torch.testing.assert_close(
        task.logits_of(model, rows.embedding), rows.logits
    )
    torch.testing.assert_close(rows.probabilities.sum(1), torch.ones(3))
    some = rows.take(torch.tensor([True, False, True]))
    assert some.labels.tolist() == [4, 2]
    assert torch.equal(some.embedding, rows.embedding[[0, 2]])


def last_layer_of(name):
    """A detector, an image, and what its last decoder layer makes of it.

    Returns:
        tuple: Model and batch; embeddings, scores and boxes in pixels, of
        shape (queries, ...).
    """
    model, batch = build_detector(name).eval(), random_batch(1)
    data = model.data_preprocessor(copy.deepcopy(batch))
    (sample,) = data['data_samples']
    with torch.no_grad():
        found = model.forward_transformer(
            model.extract_feat(data['inputs']), [sample]
        )
        scores, boxes = (x[-1] for x in head_outputs(model.bbox_head, found))
    height, width = sample.img_shape[:2]
    corners = bbox_cxcywh_to_xyxy(boxes[0])
    corners = corners * torch.tensor([width, height, width, height])
    return model, batch, found['hidden_states'][-1][0], scores[0], corners


def rows_of_objects(model, batch, boxes, labels=None):
    """The rows of an image with objects in these places."""
    (sample,) = batch['data_samples']
    truth = sample.gt_instances[[0] * len(boxes)]
    truth.bboxes = boxes
    if labels is not None:
        truth.labels = labels
    sample.gt_instances = truth
    with torch.no_grad():
        return DetectionTask().object_rows(model, batch)


def test_reads_the_query_whose_box_lies_over_the_object():
    model, batch, hidden, _, corners = last_layer_of('detr')
    wanted = [3, 1]
    rows = rows_of_objects(model, batch, corners[wanted])
    torch.testing.assert_close(rows.embedding, hidden[wanted])


def test_reads_no_query_that_is_left_out():
    model, batch, hidden, scores, corners = last_layer_of('ddq_detr')
    kept = asked_queries(model.bbox_head, 10).is_distinct[0]
    assert kept.sum() == 3
    # An object under the box of each query, of the class it is sure of.
    rows = rows_of_objects(model, batch, corners, scores.argmax(1))
    torch.testing.assert_close(rows.embedding[kept], hidden[kept])
    gaps = torch.cdist(rows.embedding, hidden[kept]).amin(1)
    assert gaps.max() < 1e-5
    assert rows.found.max() <= scores[kept].sigmoid().max()
    assert scores[~kept].max() > scores[kept].max()


@pytest.mark.parametrize(
    ('most', 'named'), [(1, [True, False]), (10_000, [True, True])]
)
def test_names_an_object_only_among_the_detections_of_its_image(most, named):
    model, batch, _, scores, corners = last_layer_of('dino')
    query, label = divmod(int(scores.argmax()), scores.shape[-1])
    # The surest detection of the image, and another name for its box.
    labels = torch.tensor([label, (label + 1) % scores.shape[-1]])
    model.test_cfg = dict(max_per_img=most)
    rows = rows_of_objects(model, batch, corners[[query, query]], labels)
    assert rows.named.tolist() == named
