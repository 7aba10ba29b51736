"""What is drawn, read back from the figures that are about to be saved."""

import matplotlib
import numpy as np
import pytest
from matplotlib.transforms import Bbox
from PIL import Image

from gslora_mm.reports import build_report, group_plot, score_plot
from gslora_mm.reports.group_plot import plot_groups
from gslora_mm.reports.score_plot import plot_scores
from tests.figures import keep_figures
from tests.work_dirs import make_work_dir


def make_steps(tmp_path, num_steps, num_groups=6):
    names = [f'class {number}' for number in range(num_steps + 2)]
    make_work_dir(
        tmp_path,
        requests=[[name] for name in names[:num_steps]],
        classes=names,
        num_groups=num_groups,
    )
    return build_report(tmp_path)['steps']


@pytest.fixture
def drawn(monkeypatch):
    return keep_figures(monkeypatch, score_plot, group_plot)


@pytest.mark.parametrize('num_steps', [1, 3, 7])
def test_scores_show_every_value(tmp_path, drawn, num_steps):
    steps = make_steps(tmp_path, num_steps)
    plot_scores(steps, 'AP', 'unused.png')
    left, right = drawn[0].axes
    lines = {line.get_label(): line for line in left.lines + right.lines}
    for split, key in [('forget',) * 2, ('retain',) * 2]:
        values = [100 * step[f'{key}_score'] for step in steps]
        assert lines[split].get_ydata() == pytest.approx(values)
    h_means = [100 * step['h_mean'] for step in steps]
    assert lines['H-Mean'].get_ydata() == pytest.approx(h_means)
    assert ('old' in lines) == (num_steps > 1)
    if num_steps > 1:  # old starts at step 2
        assert len(lines['old'].get_ydata()) == num_steps - 1
    assert [int(tick) for tick in left.get_xticks()] == [
        *range(1, num_steps + 1)
    ]


def test_learned_classes_are_drawn(tmp_path, drawn):
    steps = make_steps(tmp_path, 3)
    steps[1].update(learned_score=0.7, learned_before=0.01)
    plot_scores(steps, 'AP', 'unused.png')
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines}
    assert lines['learned'].get_ydata() == pytest.approx([70])


@pytest.mark.parametrize('num_steps', [1, 3, 7])
def test_no_text_covers_another_or_leaves_the_figure(
    tmp_path, drawn, num_steps
):
    steps = make_steps(tmp_path, num_steps, 24)
    plot_scores(steps, 'AP', 'unused.png')
    plot_groups(steps, 'unused.png')
    for figure in drawn:
        boxes = [text.get_window_extent() for text in visible_texts(figure)]
        assert len(boxes) > 10
        width, height = figure.canvas.get_width_height()
        for number, box in enumerate(boxes):
            assert -1 <= box.x0 and box.x1 <= width + 1
            assert -1 <= box.y0 and box.y1 <= height + 1
            for other in boxes[:number]:
                shared = Bbox.intersection(box, other)
                assert shared is None or min(shared.size) < 1


def visible_texts(figure):
    """All texts, without the ticks beyond an axis' limits."""
    texts = []
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, *axes.texts]
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts.append(axis.label)
            texts += [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
    return [text for text in texts if text.get_text()]


def test_undefined_scores_are_left_out(tmp_path, drawn):
    steps = make_steps(tmp_path, 3)
    steps[1].update(retain_score=None, h_mean=None)
    plot_scores(steps, 'AP', 'unused.png')
    lines = {
        line.get_label(): line for axes in drawn[0].axes for line in axes.lines
    }
    assert len(lines['retain'].get_ydata()) == 2
    assert len(lines['H-Mean'].get_ydata()) == 2


@pytest.mark.parametrize('num_steps, num_groups', [(1, 12), (3, 24), (7, 12)])
def test_groups_show_every_norm_and_mark_zeros(
    tmp_path, drawn, num_steps, num_groups
):
    steps = make_steps(tmp_path, num_steps, num_groups)
    assert plot_groups(steps, 'unused.png')
    names = list(steps[0]['groups'])
    for axes, key in zip(drawn[0].axes, ['norm', 'update_norm'], strict=True):
        values = np.array(
            [[step['groups'][name][key] for step in steps] for name in names]
        )
        (image,) = axes.images
        assert image.get_array().shape == (num_groups, num_steps)
        assert np.ma.filled(image.get_array(), 0) == pytest.approx(values)
        hatched = [p for p in axes.patches if p.get_hatch()]
        marks = [t for t in axes.texts if t.get_text() == '0']
        assert len(hatched) == len(marks) == (values == 0).sum() > 0
    labels = [t.get_text() for t in drawn[0].axes[0].get_yticklabels()]
    assert labels == names


def test_groups_of_one_step_only(tmp_path, drawn):
    steps = make_steps(tmp_path, 2)
    removed = list(steps[1]['groups'])[0]
    del steps[1]['groups'][removed]
    assert plot_groups(steps, 'unused.png')
    image = drawn[0].axes[0].images[0]
    assert np.ma.getmaskarray(image.get_array())[0].tolist()[1]


def test_all_groups_zero(tmp_path, drawn):
    steps = make_steps(tmp_path, 1)
    for group in steps[0]['groups'].values():
        group.update(norm=0.0, update_norm=0.0, active=False)
    assert plot_groups(steps, 'unused.png')
    assert {t.get_text() for t in drawn[0].axes[0].texts} == {'0'}


def test_no_groups_no_plot(tmp_path):
    path = tmp_path / 'groups.png'
    assert not plot_groups(make_steps(tmp_path, 1, 0), path)
    assert not path.exists()


def test_files_do_not_depend_on_the_users_settings(tmp_path):
    steps = make_steps(tmp_path, 3)
    plot_scores(steps, 'AP', tmp_path / 'one.png')
    with matplotlib.rc_context({'font.size': 20, 'figure.dpi': 50}):
        plot_scores(steps, 'AP', tmp_path / 'two.png')
    one, two = (tmp_path / f'{n}.png' for n in ('one', 'two'))
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as image:
        assert image.size[0] > 1000
        assert 'Software' not in image.info


@pytest.mark.parametrize('value, text', [
    (0, '0'), (1e-5, '<.001'), (0.0042, '.004'), (0.31, '0.31'),
    (2.44, '2.4'), (57.3, '57'),
])  # fmt: skip
def test_norms_are_short(value, text):
    assert group_plot.four_characters(value) == text
