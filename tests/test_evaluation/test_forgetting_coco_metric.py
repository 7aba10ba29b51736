"""The metric against pycocotools, run separately for every split."""

import contextlib
import io
import json
import math
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from gslora_mm.evaluation import ForgettingCocoMetric, coco_scores
from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.sharing import read_once

# Ids as in COCO: with gaps, and not in the order of the dataset's classes.
CATEGORIES = {'dog': 7, 'person': 1, 'car': 3, 'zebra': 24, 'tie': 32}
CLASSES = ('person', 'car', 'dog', 'tie', 'zebra')
SPLITS = dict(
    forget=['dog', 'zebra'], retain=['person', 'tie'], old=['car'], empty=[]
)
STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


def random_boxes(rng, count):
    """Boxes (x, y, w, h) of small, medium and large area."""
    size = rng.choice([16, 50, 110], (count, 1)) * rng.uniform(
        0.7, 1.4, (count, 2)
    )
    return np.hstack([rng.uniform(0, 200, (count, 2)), size])


def make_data(seed, absent=(), crowd_share=0.15, num_images=14):
    """COCO ground truth, and per image (boxes xyxy, scores, labels).

    Detections are shaken ground truth, false alarms and other classes;
    every fourth image has none, every fifth no ground truth.
    """
    rng = np.random.default_rng(seed)
    names = [name for name in CATEGORIES if name not in absent]
    images, annotations, detections = [], [], {}
    for number in range(num_images):
        image_id = 1000 - 7 * number  # not in ascending order
        images.append(
            dict(id=image_id, width=400, height=400, file_name=f'{number}')
        )
        truth = random_boxes(rng, 0 if number % 5 == 4 else 6)
        chosen = rng.choice(names, len(truth))
        for box, name in zip(truth, chosen, strict=True):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=CATEGORIES[name],
                    bbox=box.tolist(),
                    area=float(box[2] * box[3]),
                    iscrowd=int(rng.random() < crowd_share),
                )
            )
        # Labels are numbered in the annotation file's order, as CocoDataset
        # does, not in the order of the class names.
        order = list(CATEGORIES)
        labels = [order.index(name) for name in chosen]
        boxes = np.vstack(
            [
                truth + rng.normal(0, 3, truth.shape),
                random_boxes(rng, 5),
            ]
        )
        labels = np.array(labels + rng.integers(0, len(order), 5).tolist())
        if number % 4 == 3:
            boxes, labels = boxes[:0], labels[:0]
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        detections[image_id] = (corners, rng.random(len(boxes)), labels)
    truth = dict(
        images=images,
        annotations=annotations,
        categories=[
            dict(id=id_, name=name) for name, id_ in CATEGORIES.items()
        ],
    )
    return truth, detections


def run_metric(tmp_path, truth, detections, **kwargs):
    """Feed the metric as a Runner does and return its figures."""
    ann_file = tmp_path / 'truth.json'
    ann_file.write_text(json.dumps(truth))
    kwargs = dict(splits=SPLITS, ann_file=str(ann_file)) | kwargs
    metric = METRICS.build(
        dict(type='gslora_mm.ForgettingCocoMetric', **kwargs)
    )
    metric.dataset_meta = dict(classes=CLASSES)
    return evaluate(metric, detections)


def evaluate(metric, detections, instances=None):
    for image_id, (boxes, scores, labels) in detections.items():
        sample = dict(
            img_id=image_id,
            ori_shape=(400, 400),
            pred_instances=dict(
                bboxes=torch.tensor(boxes, dtype=torch.float32),
                scores=torch.tensor(scores, dtype=torch.float32),
                labels=torch.tensor(labels, dtype=torch.long),
            ),
        )
        if instances is not None:
            sample['instances'] = instances[image_id]
        metric.process({}, [sample])
    return metric.evaluate(len(detections))


def run_pycocotools(tmp_path, truth, detections, names, own_images=False):
    """COCO's six AP figures of one separate run; NaN for its -1."""
    results = []
    for image_id, (boxes, scores, labels) in detections.items():
        boxes, scores = np.float32(boxes), np.float32(scores)
        for box, score, label in zip(boxes, scores, labels, strict=True):
            x1, y1, x2, y2 = box.tolist()
            results.append(
                dict(
                    image_id=image_id,
                    category_id=list(CATEGORIES.values())[label],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    score=float(score),
                )
            )
    (tmp_path / 'plain.json').write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / 'plain.json'))
        evaluation = COCOeval(coco, coco.loadRes(results), 'bbox')
        cat_ids = [CATEGORIES[name] for name in names]
        evaluation.params.catIds = cat_ids
        if own_images:
            evaluation.params.imgIds = sorted(
                {
                    annotation['image_id']
                    for annotation in truth['annotations']
                    if annotation['category_id'] in cat_ids
                }
            )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [math.nan if stat == -1 else stat for stat in evaluation.stats]
    return dict(zip(STATS, stats[:6], strict=True))


def assert_same(metrics, prefix, expected):
    found = {key: metrics[f'coco/{prefix}{key}'] for key in STATS}
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('own_images', [False, True])
def test_equals_pycocotools_per_split(tmp_path, seed, own_images):
    truth, detections = make_data(seed)
    metrics = run_metric(
        tmp_path, truth, detections, only_split_images=own_images
    )
    for split in ('forget', 'retain', 'old'):
        assert_same(
            metrics,
            f'{split}/',
            run_pycocotools(
                tmp_path, truth, detections, SPLITS[split], own_images
            ),
        )
    assert_same(
        metrics, 'bbox_', run_pycocotools(tmp_path, truth, detections, CLASSES)
    )
    for name in CLASSES:
        expected = run_pycocotools(tmp_path, truth, detections, [name])
        assert metrics[f'coco/per_class/{name}'] == pytest.approx(
            expected['mAP'], abs=1e-12
        )
    assert 0 < metrics['coco/bbox_mAP'] < 1


def test_the_papers_images_change_the_score(tmp_path):
    truth, detections = make_data(0)
    everywhere = run_metric(tmp_path, truth, detections)
    own = run_metric(tmp_path, truth, detections, only_split_images=True)
    # False alarms elsewhere count for nothing, so no split can lose.
    assert own['coco/forget/mAP'] > everywhere['coco/forget/mAP']
    assert own['coco/bbox_mAP'] == everywhere['coco/bbox_mAP']
    assert own['coco/per_class/dog'] == everywhere['coco/per_class/dog']


@pytest.mark.parametrize('own_images', [False, True])
def test_categories_without_ground_truth(tmp_path, own_images):
    truth, detections = make_data(5, absent=['zebra', 'car'])
    metrics = run_metric(
        tmp_path, truth, detections, only_split_images=own_images
    )
    assert math.isnan(metrics['coco/per_class/zebra'])
    # A split's AP is that of the categories that can be scored.
    assert_same(
        metrics,
        'forget/',
        run_pycocotools(
            tmp_path, truth, detections, SPLITS['forget'], own_images
        ),
    )
    assert not math.isnan(metrics['coco/forget/mAP'])
    for key in STATS:
        assert math.isnan(metrics[f'coco/old/{key}'])
        assert math.isnan(metrics[f'coco/empty/{key}'])


@pytest.mark.parametrize('own_images', [False, True])
def test_only_crowds_are_nothing_to_detect(tmp_path, own_images):
    truth, detections = make_data(6, crowd_share=1)
    metrics = run_metric(
        tmp_path, truth, detections, only_split_images=own_images
    )
    assert all(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize('from_file', [False, True])
def test_no_objects_at_all(tmp_path, from_file):
    truth, detections = make_data(6)
    truth['annotations'] = []
    if from_file:
        metrics = run_metric(tmp_path, truth, detections)
    else:
        metric = ForgettingCocoMetric(splits=SPLITS)
        metric.dataset_meta = dict(classes=CLASSES)
        metrics = evaluate(metric, detections, dict.fromkeys(detections, []))
    assert all(math.isnan(value) for value in metrics.values())
    assert len(metrics) == 6 * (1 + len(SPLITS)) + len(CLASSES)


@pytest.mark.parametrize('own_images', [False, True])
def test_no_detections_at_all_is_zero(tmp_path, own_images):
    truth, detections = make_data(7, absent=['car'])
    nothing = {
        image_id: (np.zeros((0, 4)), np.zeros(0), np.zeros(0))
        for image_id in detections
    }
    metrics = run_metric(
        tmp_path, truth, nothing, only_split_images=own_images
    )
    assert metrics['coco/bbox_mAP'] == 0
    assert metrics['coco/forget/mAP'] == metrics['coco/retain/mAP'] == 0
    assert metrics['coco/per_class/dog'] == 0
    assert math.isnan(metrics['coco/old/mAP'])


def test_perfect_detections_score_one(tmp_path):
    truth, detections = make_data(8, crowd_share=0)
    order = list(CATEGORIES.values())
    for image_id in detections:
        own = [
            annotation
            for annotation in truth['annotations']
            if annotation['image_id'] == image_id
        ]
        boxes = np.array([a['bbox'] for a in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [order.index(a['category_id']) for a in own]
        detections[image_id] = (boxes, np.full(len(own), 0.9), labels)
    metrics = run_metric(tmp_path, truth, detections)
    assert metrics['coco/forget/mAP'] == pytest.approx(1)
    assert metrics['coco/per_class/zebra'] == pytest.approx(1)


def test_is_unrounded_and_repeatable(tmp_path):
    truth, detections = make_data(9)
    metrics = run_metric(tmp_path, truth, detections)
    ap = metrics['coco/forget/mAP']
    assert isinstance(ap, float) and ap != round(ap, 3)
    assert metrics == pytest.approx(
        run_metric(tmp_path, truth, detections), abs=0, nan_ok=True
    )


def test_more_than_a_hundred_detections_per_image(tmp_path):
    truth, detections = make_data(10)
    rng = np.random.default_rng(10)
    for image_id, (boxes, scores, labels) in detections.items():
        noise = random_boxes(rng, 300)
        noise[:, 2:] += noise[:, :2]
        detections[image_id] = (
            np.vstack([noise, boxes]),
            np.append(rng.random(300), scores),
            np.append(np.zeros(300, int), labels).astype(int),
        )
    metrics = run_metric(tmp_path, truth, detections)
    for split in ('forget', 'retain'):
        assert_same(
            metrics,
            f'{split}/',
            run_pycocotools(tmp_path, truth, detections, SPLITS[split]),
        )


def test_the_order_of_the_numbers_of_detections_says_nothing(tmp_path):
    """(1, 10, 100), pycocotools' own, stands in many configs."""
    truth, detections = make_data(12)
    default = run_metric(tmp_path, truth, detections)
    for numbers in ((1, 10, 100), (100, 300, 1000), (100, 1, 10)):
        found = run_metric(tmp_path, truth, detections, proposal_nums=numbers)
        assert found.keys() == default.keys()
        for key, value in found.items():
            assert value == pytest.approx(default[key], nan_ok=True), key
    fewer = run_metric(tmp_path, truth, detections, proposal_nums=(1, 1, 1))
    assert fewer['coco/bbox_mAP'] < default['coco/bbox_mAP']


def test_annotations_of_tools_that_know_no_crowds(tmp_path):
    truth, detections = make_data(13, crowd_share=0)
    expected = run_metric(tmp_path, truth, detections)
    for annotation in truth['annotations']:
        del annotation['iscrowd']
    found = run_metric(tmp_path, truth, detections)
    for key, value in found.items():
        assert value == pytest.approx(expected[key], nan_ok=True), key


def test_ground_truth_from_the_data_samples(tmp_path):
    """Without an annotation file, as mmdet's metric allows."""
    truth, detections = make_data(11)
    order = list(CATEGORIES.values())
    # mmdet numbers the categories of such ground truth by the classes.
    to_label = {cat_id: n for n, cat_id in enumerate(order)}
    instances = {image_id: [] for image_id in detections}
    for annotation in truth['annotations']:
        x, y, w, h = annotation['bbox']
        instances[annotation['image_id']].append(
            dict(
                bbox=[x, y, x + w, y + h],
                bbox_label=to_label[annotation['category_id']],
                ignore_flag=annotation['iscrowd'],
            )
        )
    metric = ForgettingCocoMetric(splits=SPLITS)
    metric.dataset_meta = dict(classes=tuple(CATEGORIES))
    metrics = evaluate(metric, detections, instances)
    expected = run_metric(tmp_path, truth, detections)
    assert metrics == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_labels_told_by_names(tmp_path):
    """Of a file whose categories are in another order than the classes."""
    truth, detections = make_data(11)
    expected = run_metric(tmp_path, truth, detections)
    order = list(CATEGORIES)
    by_name = {
        image_id: (
            boxes,
            scores,
            np.array([CLASSES.index(order[label]) for label in labels], int),
        )
        for image_id, (boxes, scores, labels) in detections.items()
    }
    found = run_metric(tmp_path, truth, by_name, by_name=True)
    assert found == pytest.approx(expected, nan_ok=True)
    assert found['coco/bbox_mAP'] > 0
    truth['categories'].reverse()
    found = run_metric(tmp_path, truth, by_name, by_name=True)
    assert found == pytest.approx(expected, nan_ok=True)


def test_images_of_the_file_that_are_not_evaluated(tmp_path):
    truth, detections = make_data(11)
    evaluated = dict(list(detections.items())[:7])
    found = run_metric(tmp_path, truth, evaluated)
    for key, id_ in dict(images='id', annotations='image_id').items():
        truth[key] = [each for each in truth[key] if each[id_] in evaluated]
    expected = run_metric(tmp_path, truth, evaluated)
    assert found == pytest.approx(expected, nan_ok=True)


def test_every_worker_process_gives_the_same(tmp_path):
    truth, detections = make_data(12)
    plain = run_metric(tmp_path, truth, detections)
    parallel = run_metric(tmp_path, truth, detections, use_mp_eval=True)
    assert parallel == pytest.approx(plain, abs=0, nan_ok=True)


def test_console_stays_quiet_and_the_log_gets_one_table(
    tmp_path, capsys, monkeypatch
):
    truth, detections = make_data(13)
    messages = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', messages.append)
    run_metric(tmp_path, truth, detections, classwise=True)
    assert capsys.readouterr().out == ''
    (table,) = messages
    header, _, *lines = table.strip().splitlines()
    rows = [line.split('|')[1].strip() for line in [header, *lines]]
    assert rows == ['split', 'all', *SPLITS, *CATEGORIES]
    assert len({len(line) for line in table.strip().splitlines()}) == 1


def test_format_only_writes_detections_and_no_scores(tmp_path):
    truth, detections = make_data(14)
    metrics = run_metric(
        tmp_path,
        truth,
        detections,
        format_only=True,
        outfile_prefix=str(tmp_path / 'out'),
    )
    assert metrics == {}
    written = json.loads((tmp_path / 'out.bbox.json').read_text())
    assert len(written) == sum(len(d[2]) for d in detections.values())


def test_unknown_category_names_the_nearest():
    metric = ForgettingCocoMetric(splits=dict(forget=['persn'], retain=[]))
    with pytest.raises(ConfigError, match='splits.forget.*persn.*person'):
        metric.dataset_meta = dict(classes=CLASSES)


def test_category_of_the_dataset_not_in_the_annotation_file(tmp_path):
    truth, detections = make_data(15)
    truth['categories'] = truth['categories'][:-1]
    with pytest.raises(ConfigError, match="ann_file: no category 'tie'"):
        run_metric(tmp_path, truth, detections)


@pytest.mark.parametrize('names', ['dog', ['dog', 'dog']])
def test_splits_must_be_lists_of_different_names(names):
    with pytest.raises(ConfigError, match='splits.forget'):
        ForgettingCocoMetric(splits=dict(forget=names))


def test_only_boxes_are_scored():
    with pytest.raises(ConfigError, match="metric.*'segm'.*valid is 'bbox'"):
        ForgettingCocoMetric(splits={}, metric=['bbox', 'segm'])


def test_errors_of_other_arguments_are_not_the_files(tmp_path):
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(make_data(0)[0]))
    with pytest.raises(TypeError, match='classwize'):
        ForgettingCocoMetric(splits={}, ann_file=str(path), classwize=True)
    with pytest.raises(AssertionError, match='outfile_prefix'):
        ForgettingCocoMetric(splits={}, ann_file=str(path), format_only=True)


def test_missing_annotation_file(tmp_path):
    path = str(tmp_path / 'nowhere.json')
    with pytest.raises(ConfigError, match='nowhere.json.*does not exist'):
        ForgettingCocoMetric(splits={}, ann_file=path)


@pytest.mark.parametrize(
    'content',
    [
        '{"images": [',
        '[1, 2]',
        '',
        '{"annotations": [{}]}',
        '{"annotations": 5}',
    ],
)
def test_malformed_annotation_file(tmp_path, content):
    path = tmp_path / 'broken.json'
    path.write_text(content)
    with pytest.raises(ConfigError, match='broken.json.*not a COCO'):
        ForgettingCocoMetric(splits={}, ann_file=str(path))


def test_scores_of_repeated_images_are_those_of_pycocotools(tmp_path):
    truth, detections = make_data(1)
    ann_file = tmp_path / 'truth.json'
    ann_file.write_text(json.dumps(truth))
    metric = ForgettingCocoMetric(splits=SPLITS, ann_file=str(ann_file))
    metric.dataset_meta = dict(classes=CLASSES)
    evaluate_later = metric.evaluate
    metric.evaluate = lambda size: None  # it would forget what it has seen
    evaluate(metric, detections)
    metric.evaluate = evaluate_later
    images = list(detections)
    counts = np.random.default_rng(0).integers(0, 3, (3, len(images)))
    counts[0] = 1
    found = metric.resampled_scores(counts, CLASSES)

    for sample, weights in enumerate(counts):
        # Each repetition is an image of its own, with another id.
        repeated = dict(truth, images=[], annotations=[])
        others = {}
        for image, times in zip(images, weights, strict=True):
            for turn in range(times):
                new = image + 10_000 * turn
                others[new] = detections[image]
                (info,) = (i for i in truth['images'] if i['id'] == image)
                repeated['images'].append(dict(info, id=new))
                repeated['annotations'] += [
                    dict(each, image_id=new, id=each['id'] + 100_000 * turn)
                    for each in truth['annotations']
                    if each['image_id'] == image
                ]
        for name in CLASSES:
            expected = run_pycocotools(tmp_path, repeated, others, [name])
            assert found[name][sample] == pytest.approx(
                expected['mAP'], abs=1e-9, nan_ok=True
            ), (sample, name)
    assert len({round(float(v), 9) for v in found[CLASSES[0]]}) > 1


def test_what_is_to_be_ignored_counts_neither_way(tmp_path):
    """Two on a crowd, one of another size alone, one on an object."""
    boxes = np.array([[0, 0, 50, 50], [200, 200, 50, 50]])
    truth, _ = make_data(0, num_images=1)
    truth['annotations'] = [
        dict(
            id=number,
            image_id=1000,
            category_id=1,
            bbox=box.tolist(),
            area=2500,
            iscrowd=number - 1,
        )
        for number, box in enumerate(boxes, 1)
    ]
    where = [[200, 200, 250, 250], [202, 202, 248, 248], [300, 300, 310, 310]]
    where = np.array([*where, [0, 0, 50, 50]])
    detections = {1000: (where, np.array([0.9, 0.8, 0.7, 0.6]), [1] * 4)}
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(truth))
    metric = ForgettingCocoMetric(splits=SPLITS, ann_file=str(path))
    metric.dataset_meta = dict(classes=CLASSES)
    metric.evaluate, evaluate_later = lambda size: None, metric.evaluate
    evaluate(metric, detections)
    found = metric.resampled_scores(np.array([[1], [2], [0]]), ['person'])
    # The third is wrong, as its size does not matter here.
    assert found['person'] == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)

    evaluation = metric._match(metric.results, COCOeval)
    for area, counted in dict(all=[0, 0, 1, 1], medium=[0, 0, 0, 1]).items():
        matches = coco_scores.Matches.of(evaluation, 1, area)
        assert matches.objects.tolist() == [1]
        assert (matches.right | matches.wrong)[0].tolist() == counted
        assert matches.right[0].tolist() == [0, 0, 0, 1]
    metric.evaluate = evaluate_later
    own = metric.evaluate(1)
    assert own['coco/bbox_mAP_m'] == pytest.approx(1)


@pytest.mark.parametrize('own_images', [False, True])
def test_evaluations_share_the_file(tmp_path, own_images):
    data = make_data(2)
    expected = run_metric(tmp_path, *data, only_split_images=own_images)
    path = str(tmp_path / 'truth.json')
    with read_once():
        metrics = [
            ForgettingCocoMetric(SPLITS, own_images, ann_file=path)
            for _ in range(2)
        ]
        assert metrics[0]._coco_api is metrics[1]._coco_api
        for metric in metrics:
            metric.dataset_meta = dict(classes=CLASSES)
            found = evaluate(metric, data[1])
            assert found == pytest.approx(expected, abs=0, nan_ok=True)


@pytest.mark.parametrize('found', ['all', 'not zebra', 'nothing'])
@pytest.mark.parametrize('own_images', [False, True])
def test_the_faster_package_gives_the_same(tmp_path, found, own_images):
    pytest.importorskip('faster_coco_eval')
    truth, detections = make_data(1, absent=['tie'])
    zebra = list(CATEGORIES).index('zebra')
    for image, (boxes, scores, labels) in detections.items():
        kept = dict(all=labels >= 0, nothing=labels < 0).get(
            found, labels != zebra
        )
        detections[image] = boxes[kept], scores[kept], labels[kept]
    data = truth, detections
    expected, found = (
        run_metric(
            tmp_path, *data, only_split_images=own_images, faster=faster
        )
        for faster in (False, True)
    )
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_faster_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    with pytest.raises(
        ConfigError, match="'FasterCocoMetric': needs .* pip install faster-"
    ):
        ForgettingCocoMetric(splits=SPLITS, faster=True)
