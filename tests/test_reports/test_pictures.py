"""Before-and-after pictures, with a tiny real detector of mmdet."""

import json
import os

import mmcv
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from mmengine.config import Config
from PIL import Image

from gslora_mm.utils import ConfigError
from gslora_mm.reports import pictures as pictures_module
from gslora_mm.reports import write_report
from gslora_mm.reports.detections import Boxes, detect, ground_truth
from gslora_mm.reports.pictures import draw_pictures, plot_pictures
from gslora_mm.reports.selection import choose_images, load_config
from tests.detectors import build_detector, tiny_detector_config
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


def test_ground_truth(work_dir, capsys):
    truth = ground_truth(load_config(work_dir), CLASSES)
    assert [os.path.basename(path) for path, _ in truth] == [
        f'{n}.png' for n in range(1, 6)
    ]
    assert truth[2][1].names == ['dog', 'person']  # and no crowd
    assert truth[2][1].corners[1].tolist() == [14, 6, 23, 26]
    assert truth[2][1].scores is None
    assert capsys.readouterr().out == ''


def test_images_are_chosen_by_what_they_show():
    names = [
        ['person'],
        ['dog'],
        ['dog', 'person'],
        ['car', *['cat'] * 4],
        ['car', 'cat'],
        [],
    ]
    requests = [['dog'], ['car']]
    assert choose_images(names, requests, 2) == [2, 4]
    # Turns go on until a step has no image left.
    assert choose_images(names, requests, 9) == [2, 4, 1, 3]
    assert choose_images(names, [['zebra']], 3) == []
    assert choose_images(names, [], 3) == []


def test_images_show_many_forgotten_categories():
    names = [['dog'], ['dog', 'car'], ['car'], ['tie', 'dog']]
    assert choose_images(names, [['dog', 'car', 'tie']], 2) == [1, 3]


def test_detections_are_those_of_mmdet(work_dir):
    """Against the model called directly, for each checkpoint."""
    config = load_config(work_dir)
    path = str(work_dir / 'data' / '3.png')
    files = {
        'a': str(work_dir / 'pretrained.pth'),
        'b': str(work_dir / 'step_02' / 'merged.pth'),
    }
    checkpoints = {title: (file, False) for title, file in files.items()}
    results = dict(detect(config, checkpoints, CLASSES, [path], 0.0, 'cpu'))
    for title, seed in (('a', 0), ('b', 2)):
        model = build_detector('deformable_detr', seed=seed).eval()
        (found,) = results[title]
        image = mmcv.imresize(mmcv.imread(path), (64, 48))
        sample = forward(model, image)
        order = sample.scores.argsort(descending=True, stable=True)
        assert found.scores == pytest.approx(sample.scores[order].tolist())
        assert found.corners == pytest.approx(
            sample.bboxes[order].numpy(), abs=1e-4
        )
        labels = sample.labels[order].tolist()
        assert found.names == [CLASSES[label] for label in labels]
    assert results['a'][0].scores != results['b'][0].scores


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


def test_threshold(work_dir):
    config = load_config(work_dir)
    path = str(work_dir / 'data' / '3.png')
    files = {'a': (str(work_dir / 'pretrained.pth'), False)}
    every = dict(detect(config, files, CLASSES, [path], 0.0, 'cpu'))['a'][0]
    middle = every.scores[4]
    some = dict(detect(config, files, CLASSES, [path], middle, 'cpu'))['a'][0]
    assert some.scores == [s for s in every.scores if s >= middle]
    assert 5 <= len(some.scores) < len(every.scores)


def test_report_with_pictures(work_dir, monkeypatch):
    drawn = {}

    def keep(images, columns, requests, path):
        drawn.update(columns=columns, images=images)
        return plot_pictures(images, columns, requests, path)

    monkeypatch.setattr(pictures_module, 'plot_pictures', keep)
    report = write_report(work_dir)
    assert list(drawn['columns']) == [
        'ground truth', 'pre-trained', 'after step 1', 'after step 2',
    ]  # fmt: skip
    assert all(len(found) == 4 for found in drawn['columns'].values())
    assert drawn['columns']['ground truth'][0].names == ['dog', 'person']
    with Image.open(work_dir / 'data' / '3.png') as image:
        assert (drawn['images'][0] == np.asarray(image)).all()  # RGB
    text = (work_dir / 'report.md').read_text()
    assert '](report/pictures.png)' in text
    assert [step['step'] for step in report['steps']] == [1, 2]

    path = work_dir / 'report' / 'pictures.png'
    first = path.read_bytes()
    write_report(work_dir)
    assert path.read_bytes() == first


def test_moved_checkpoint_is_an_error_here_and_a_warning_in_the_report(
    work_dir, tmp_path
):
    report = write_report(work_dir, pictures=False)
    merged = work_dir / 'step_02' / 'merged.pth'
    merged.rename(tmp_path / 'merged.pth')
    try:
        with pytest.raises(ConfigError, match=r'step_02.merged\.pth'):
            draw_pictures(work_dir, report, tmp_path / 'out.png')
        assert not (tmp_path / 'out.png').exists()
        write_report(work_dir)
        assert 'pictures.png' not in (work_dir / 'report.md').read_text()
    finally:
        (tmp_path / 'merged.pth').rename(merged)


def test_nothing_to_show(work_dir, tmp_path):
    report = write_report(work_dir, pictures=False)
    report['steps'][0]['forget'] = report['steps'][1]['forget'] = ['zebra']
    path = tmp_path / 'pictures.png'
    assert not draw_pictures(work_dir, report, path)
    assert not path.exists()


def test_frames_tell_what_should_be_gone(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        pictures_module,
        'save_figure',
        lambda figure, path: figures.append(figure),
    )
    boxes = Boxes(
        np.array([[2, 20, 20, 40], [30, 20, 50, 40], [30, 44, 50, 60]]),
        ['dog', 'car', 'cat'],
        [0.9, 0.8, 0.7],
    )
    columns = {
        title: [boxes]
        for title in ('ground truth', 'pre-trained', 'step 1', 'step 2')
    }
    plot_pictures(
        [np.zeros((64, 64, 3), np.uint8)],
        columns,
        [['dog'], ['car']],
        'unused.png',
    )
    seen = []
    for axes in figures[0].axes:
        frames = [
            patch
            for patch in axes.patches
            if isinstance(patch, Rectangle) and not patch.get_fill()
        ]
        seen.append([(f.get_edgecolor(), f.get_linestyle()) for f in frames])
        assert [text.get_text() for text in axes.texts] == [
            'dog 0.90', 'car 0.80', 'cat 0.70',
        ]  # fmt: skip
    later, kept = seen[0][0], seen[0][2]
    assert seen[0] == seen[1] == [later, later, kept]
    gone = seen[2][0]
    assert seen[2] == [gone, later, kept]
    assert seen[3] == [gone, gone, kept]
    assert gone[0] == later[0] != kept[0] and gone[1] != later[1]


def test_labels_do_not_cover_one_another(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        pictures_module,
        'save_figure',
        lambda figure, path: figures.append(figure),
    )
    box = [10, 20, 60, 50]
    boxes = Boxes(np.array([box] * 4), ['dog', 'car', 'cat', 'tie'], [0.5] * 4)
    plot_pictures(
        [np.zeros((96, 96, 3), np.uint8)],
        {'ground truth': [boxes], 'pre-trained': [boxes]},
        [],
        'unused.png',
    )
    labels = [
        patch.get_bbox()
        for patch in figures[0].axes[0].patches
        if patch.get_fill()
    ]
    assert len(labels) == 4
    for number, label in enumerate(labels):
        assert 0 <= label.x0 and label.x1 <= 96
        assert 0 <= label.y0 and label.y1 <= 96
        for other in labels[:number]:
            assert pictures_module._overlap(label, other) == 0
