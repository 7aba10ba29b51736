"""Before-and-after pictures of a tiny real classifier of mmpretrain."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmengine.config import Config

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.reports import pictures as pictures_module
from gslora_mm.reports import write_report
from gslora_mm.reports.classification_pictures import ClassificationPictures
from gslora_mm.reports.pictures import (
    Example,
    Finding,
    draw_sheet,
    predictions,
    read_image,
    validation_set,
)
from gslora_mm.reports.style import COLOURS
from tests.class_sequences import CLASSES, make_images, tiny_class_sequence
from tests.classifiers import build_classifier
from tests.figures import check_moved_checkpoint, keep_figures
from tests.work_dirs import make_work_dir


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A finished sequence of two steps with checkpoints, config and data."""
    root = tmp_path_factory.mktemp('work_dir')
    make_images(root / 'data' / 'val', dict.fromkeys(CLASSES, 2))
    make_work_dir(
        root,
        requests=[['red', 'cyan'], ['green']],
        classes=CLASSES,
        metric='top1',
        task='classification',
    )
    for number, name in enumerate(['pretrained.pth', 'step_01', 'step_02']):
        path = root / name
        if not name.endswith('.pth'):
            path = path / 'merged.pth'
        model = build_classifier('deit', len(CLASSES), seed=number)
        torch.save(dict(state_dict=model.state_dict()), path)
    cfg = tiny_class_sequence(root / 'data', root)
    kept = ('default_scope', 'model', 'data_preprocessor', 'val_dataloader')
    Config({key: cfg[key] for key in kept}).dump(
        str(root / 'pretrained' / 'config.py')
    )
    return root


def test_rankings_are_the_models_predictions(work_dir):
    config = Config.fromfile(work_dir / 'pretrained' / 'config.py')
    dataset = validation_set(config)
    files = {
        name: (str(work_dir / name), False)
        for name in ('pretrained.pth', 'step_01/merged.pth')
    }
    pictures = ClassificationPictures()
    found = {
        title: [pictures.prediction(sample, CLASSES) for sample in samples]
        for title, samples in predictions(config, files, dataset, [3, 7])
    }
    for seed, rankings in enumerate(found.values()):
        model = build_classifier('deit', len(CLASSES), seed=seed).eval()
        for index, ranking in zip([3, 7], rankings, strict=True):
            image = torch.from_numpy(read_image(dataset, index)).permute(
                2, 0, 1
            )
            with torch.no_grad():
                # The image is RGB, what loaders give is not.
                (sample,) = model.test_step(
                    dict(inputs=[image.flip(0)], data_samples=None)
                )
            scores, labels = sample.pred_score.topk(3)
            assert ranking.scores == pytest.approx(scores.tolist(), abs=1e-5)
            assert ranking.names == [CLASSES[label] for label in labels]
    assert len({r.scores[0] for rs in found.values() for r in rs}) == 4


def test_images_of_all_steps_and_retained_ones(work_dir, monkeypatch):
    drawn = {}

    def keep(pictures, examples, columns, requests, path):
        drawn.update(
            images=[example.image for example in examples],
            truth=[n for example in examples for n in example.truth.names],
            columns=columns,
        )
        draw_sheet(pictures, examples, columns, requests, path)

    monkeypatch.setattr(pictures_module, 'draw_sheet', keep)
    write_report(work_dir)
    assert drawn['truth'] == ['cyan', 'red', 'green', 'green', 'blue', 'pink']
    assert list(drawn['columns']) == [
        'pre-trained', 'after step 1', 'after step 2',
    ]  # fmt: skip
    red = drawn['images'][1].mean((0, 1))
    assert red.argmax() == 0  # RGB
    text = (work_dir / 'report.md').read_text()
    assert '](report/pictures.png)' in text and 'likeliest' in text

    path = work_dir / 'report' / 'pictures.png'
    first = path.read_bytes()
    write_report(work_dir)
    assert path.read_bytes() == first


def test_moved_checkpoint_is_an_error_here_and_a_warning_in_the_report(
    work_dir, tmp_path
):
    check_moved_checkpoint(work_dir, tmp_path)


def test_bars_tell_what_should_be_gone(monkeypatch):
    figures = keep_figures(monkeypatch, pictures_module)
    ranking = Finding(['dog', 'car', 'cat'], [0.7, 0.2, 0.1])
    truth = ['dog', 'car', 'cat']
    draw_sheet(
        ClassificationPictures(),
        [
            Example(np.zeros((8, 8, 3), np.uint8), Finding([name]))
            for name in truth
        ],
        {title: [ranking] * 3 for title in ('before', 'step 1', 'step 2')},
        [['dog'], ['car']],
        'unused.png',
    )
    axes = np.array(figures[0].axes).reshape(3, 4)
    forget, retain = (to_rgb(COLOURS[k]) for k in ('forget', 'retain'))
    for row, name in enumerate(truth):
        assert axes[row, 0].get_title(loc='left') == name
        for column in range(3):
            bars = axes[row, 1 + column].patches
            assert [bar.get_width() for bar in bars] == ranking.scores
            true = bars[row]
            gone = column >= row + 1 and name != 'cat'
            assert bool(true.get_hatch()) == gone
            if gone:
                assert true.get_edgecolor()[:3] == forget
            else:
                expected = retain if name == 'cat' else forget
                assert true.get_facecolor()[:3] == expected
            others = [bar for bar in bars if bar is not true]
            assert {bar.get_facecolor() for bar in others} == {
                (*to_rgb('#DCDCDC'), 1)
            }
