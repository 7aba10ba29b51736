"""Before-and-after pictures of a tiny real detector of mmdet."""

import json
import os

import mmcv
import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.transforms import Bbox
from mmengine.config import Config
from PIL import Image

from gslora_mm.reports import pictures as pictures_module
from gslora_mm.reports import write_report
from gslora_mm.reports.detection_pictures import DetectionPictures
from gslora_mm.reports.pictures import (
    Example,
    Finding,
    draw_pictures,
    draw_sheet,
    predictions,
    validation_set,
)
from tests.detectors import build_detector, tiny_detector_config
from tests.figures import check_moved_checkpoint, keep_figures
from tests.work_dirs import make_work_dir

CLASSES = ['person', 'car', 'dog', 'cat']
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
        ),
    ),
]  # fmt: skip


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A finished sequence of two steps with checkpoints, config and data."""
    root = tmp_path_factory.mktemp('work_dir')
    make_work_dir(root, requests=[['dog'], ['car']], classes=CLASSES)
    make_data(root / 'data')
    for number, name in enumerate(['pretrained.pth', 'step_01', 'step_02']):
        path = root / name
        if not name.endswith('.pth'):
            path = path / 'merged.pth'
        model = build_detector('deformable_detr', seed=number)
        torch.save(dict(state_dict=model.state_dict()), path)
    config = Config(
        dict(
            default_scope='mmdet',
            model=tiny_detector_config('deformable_detr').to_dict(),
            val_dataloader=dict(
                dataset=dict(
                    type='CocoDataset',
                    data_root=str(root / 'data'),
                    ann_file='truth.json',
                    data_prefix=dict(img=''),
                    metainfo=dict(classes=CLASSES),
                    test_mode=True,
                    pipeline=PIPELINE,
                )
            ),
        )
    )
    config.dump(str(root / 'pretrained' / 'config.py'))
    return root


def make_data(folder):
    """Five images; the objects of each are in its comment below."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    names_of = [
        ['person'],  # nothing that is forgotten
        ['dog'],
        ['dog', 'person'],  # for step 1: it shows a retained one too
        ['car', 'cat', 'cat', 'cat', 'cat'],
        ['car', 'cat'],  # for step 2: fewer objects
    ]
    images, annotations = [], []
    for image_id, names in enumerate(names_of, start=1):
        pixels = rng.integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{image_id}.png')
        images.append(
            dict(id=image_id, width=64, height=48, file_name=f'{image_id}.png')
        )
        for place, name in enumerate([*names, 'zebra']):
            crowd = name == 'zebra'  # stands for a crowd of persons
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=1 + CLASSES.index('person' if crowd else name),
                    bbox=[4 + 10 * place, 6, 9, 20],
                    area=180,
                    iscrowd=int(crowd),
                )
            )
    categories = [dict(id=n, name=name) for n, name in enumerate(CLASSES, 1)]
    (folder / 'truth.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )


@pytest.fixture
def config(work_dir):
    return Config.fromfile(work_dir / 'pretrained' / 'config.py')


def test_ground_truth(config, capsys):
    dataset = validation_set(config)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [os.path.basename(info['img_path']) for info in infos] == [
        f'{n}.png' for n in range(1, 6)
    ]
    truth = DetectionPictures().truth(infos[2], CLASSES)
    assert truth.names == ['dog', 'person']  # and no crowd
    assert truth.boxes[1].tolist() == [14, 6, 23, 26]
    assert truth.scores is None
    assert capsys.readouterr().out == ''


def detect(config, file, index, threshold=0.0):
    """What one checkpoint finds on one image."""
    ((_, (sample,)),) = predictions(
        config, {'a': (str(file), False)}, validation_set(config), [index]
    )
    return DetectionPictures(threshold).prediction(sample, CLASSES)


def test_detections_are_those_of_mmdet(work_dir, config):
    """Against the model called directly, for each checkpoint."""
    path = str(work_dir / 'data' / '3.png')
    scores = []
    for file, seed in (('pretrained.pth', 0), ('step_02/merged.pth', 2)):
        model = build_detector('deformable_detr', seed=seed).eval()
        found = detect(config, work_dir / file, 2)
        image = mmcv.imresize(mmcv.imread(path), (64, 48))
        sample = forward(model, image)
        order = sample.scores.argsort(descending=True, stable=True)
        assert found.scores == pytest.approx(sample.scores[order].tolist())
        assert found.boxes == pytest.approx(
            sample.bboxes[order].numpy(), abs=1e-4
        )
        labels = sample.labels[order].tolist()
        assert found.names == [CLASSES[label] for label in labels]
        scores.append(found.scores)
    assert scores[0] != scores[1]


def forward(model, image):
    from mmdet.structures import DetDataSample

    sample = DetDataSample(
        metainfo=dict(
            img_shape=(48, 64), ori_shape=(48, 64), scale_factor=(1.0, 1.0)
        )
    )
    pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    with torch.no_grad():
        return model.test_step(dict(inputs=[pixels], data_samples=[sample]))[
            0
        ].pred_instances


def test_threshold(work_dir, config):
    every = detect(config, work_dir / 'pretrained.pth', 2)
    middle = every.scores[4]
    some = detect(config, work_dir / 'pretrained.pth', 2, middle)
    assert some.scores == [s for s in every.scores if s >= middle]
    assert 5 <= len(some.scores) < len(every.scores)
    assert len(some.boxes) == len(some.names) == len(some.scores)


def test_report_with_pictures(work_dir, monkeypatch):
    drawn = {}

    def keep(pictures, examples, columns, requests, path):
        drawn.update(example=examples[0], columns=columns)
        draw_sheet(pictures, examples, columns, requests, path)

    monkeypatch.setattr(pictures_module, 'draw_sheet', keep)
    report = write_report(work_dir)
    assert list(drawn['columns']) == [
        'pre-trained', 'after step 1', 'after step 2',
    ]  # fmt: skip
    assert all(len(found) == 4 for found in drawn['columns'].values())
    assert drawn['example'].truth.names == ['dog', 'person']
    with Image.open(work_dir / 'data' / '3.png') as image:
        assert (drawn['example'].image == np.asarray(image)).all()  # RGB
    text = (work_dir / 'report.md').read_text()
    assert '](report/pictures.png)' in text
    assert 'A dashed box should be gone.' in ' '.join(text.split())
    assert [step['step'] for step in report['steps']] == [1, 2]

    path = work_dir / 'report' / 'pictures.png'
    first = path.read_bytes()
    write_report(work_dir)
    assert path.read_bytes() == first


def test_moved_checkpoint_is_an_error_here_and_a_warning_in_the_report(
    work_dir, tmp_path
):
    check_moved_checkpoint(work_dir, tmp_path)


def test_nothing_to_show(work_dir, tmp_path):
    report = write_report(work_dir, pictures=False)
    report['steps'][0]['forget'] = report['steps'][1]['forget'] = ['zebra']
    path = tmp_path / 'pictures.png'
    assert not draw_pictures(work_dir, report, path)
    assert not path.exists()


@pytest.fixture
def figures(monkeypatch):
    return keep_figures(monkeypatch, pictures_module)


def test_frames_tell_what_should_be_gone(figures):
    found = Finding(
        ['dog', 'car', 'cat'],
        [0.9, 0.8, 0.7],
        np.array([[2, 20, 20, 40], [30, 20, 50, 40], [30, 44, 50, 60.0]]),
    )
    columns = {title: [found] for title in ('pre-trained', 'step 1', 'step 2')}
    draw_sheet(
        DetectionPictures(),
        [Example(np.zeros((64, 64, 3), np.uint8), found)],
        columns,
        [['dog'], ['car']],
        'unused.png',
    )
    seen = []
    for axes in figures[0].axes:
        (frames,) = axes.findobj(PolyCollection)
        assert [path.get_extents().bounds for path in frames.get_paths()] == [
            (2, 20, 18, 20), (30, 20, 20, 20), (30, 44, 20, 16),
        ]  # fmt: skip
        styles = zip(
            map(tuple, frames.get_edgecolor()),
            [dashes is not None for _, dashes in frames.get_linestyle()],
            strict=True,
        )
        seen.append(list(styles))
        assert [text.get_text() for text in axes.texts] == [
            'dog 0.90', 'car 0.80', 'cat 0.70',
        ]  # fmt: skip
    later, kept = seen[0][0], seen[0][2]
    assert seen[0] == seen[1] == [later, later, kept]
    gone = seen[2][0]
    assert seen[2] == [gone, later, kept]
    assert seen[3] == [gone, gone, kept]
    assert gone[0] == later[0] != kept[0]
    assert gone[1] and not later[1] and not kept[1]  # dashed


@pytest.mark.parametrize('height, width', [(96, 96), (480, 640), (90, 30)])
def test_labels_cover_no_other_and_stay_on_the_image(figures, height, width):
    box = np.array([0.1, 0.2, 0.6, 0.5]) * [width, height, width, height]
    found = Finding(
        ['dog', 'car', 'cat', 'tie'], [0.5] * 4, np.array([box] * 4)
    )
    image = np.zeros((height, width, 3), np.uint8)
    example = Example(image, found)
    draw_sheet(DetectionPictures(), [example], {'before': [found]}, [], 'x')
    for axes in figures[0].axes:
        labels = [
            text.get_bbox_patch().get_window_extent() for text in axes.texts
        ]
        frame = axes.get_window_extent()
        assert len(labels) == 4
        for number, label in enumerate(labels):
            assert frame.x0 - 1 <= label.x0 and label.x1 <= frame.x1 + 1
            assert frame.y0 - 1 <= label.y0 and label.y1 <= frame.y1 + 1
            for other in labels[:number]:
                shared = Bbox.intersection(label, other)
                assert shared is None or min(shared.size) < 1


def test_titles_stay_over_their_column(figures):
    nothing = Finding([], [], np.zeros((0, 4)))
    requests = [
        ['a class with quite a long name', 'another', *'abcdefgh'],
        ['traffic light', 'dining table', *'abcdefgh'],
        ['one'],
    ]
    titles = ['pre-trained', *(f'after step {n}' for n in (1, 2, 3))]
    draw_sheet(
        DetectionPictures(),
        [Example(np.zeros((64, 64, 3), np.uint8), nothing)],
        {title: [nothing] for title in titles},
        requests,
        'unused.png',
    )
    (figure,) = figures
    for axes in figure.axes:
        title, frame = axes.title.get_window_extent(), axes.get_window_extent()
        assert frame.x0 - 1 <= title.x0 and title.x1 <= frame.x1 + 1
        assert title.y1 <= figure.bbox.y1 + 1
    assert axes.get_title() == 'after step 3\nforget one'


def test_boxes_beyond_the_image_and_none_at_all(figures, recwarn):
    outside = Finding(['dog'], [0.5], np.array([[-9.0, 5, 99, 200]]))
    nothing = Finding([], [], np.zeros((0, 4)))
    draw_sheet(
        DetectionPictures(),
        [Example(np.zeros((64, 64, 3), np.uint8), outside)],
        {'before': [nothing]},
        [],
        'unused.png',
    )
    truth, before = figures[0].axes
    (frames,) = truth.findobj(PolyCollection)
    assert frames.get_paths()[0].get_extents().bounds == pytest.approx(
        (0, 5, 64, 59), abs=0.01
    )
    assert truth.get_xlim() == before.get_xlim() == (0, 64)
    assert not before.texts
    assert not [w for w in recwarn if 'out of bounds' in str(w.message)]
