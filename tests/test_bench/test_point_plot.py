"""Points and their names, read back from the figure."""

import random
from dataclasses import replace

import pytest
from matplotlib.transforms import Bbox
from PIL import Image

from gslora_mm.bench import point_plot
from gslora_mm.bench.plots import plot_benchmark
from gslora_mm.bench.point_plot import REFERENCE, Point, plot_points
from tests.figures import keep_figures
from tests.test_bench.test_leaderboard import RESULTS

LABELS = ('seconds a step', 'H-Mean (%)')


@pytest.fixture
def drawn(monkeypatch):
    return keep_figures(monkeypatch, point_plot)


def crowd(count, seed=0):
    """Methods that nearly all cost and achieve the same."""
    rng = random.Random(seed)
    return [
        Point(
            f'method_{number}' + '_long' * (number % 3),
            rng.choice([30, 35, 40, 400]) * rng.uniform(0.95, 1.05),
            rng.choice([84, 84, 85, 20]) + rng.uniform(-1, 1),
            rng.uniform(0, 2),
            rng.uniform(0, 1),
        )
        for number in range(count)
    ]


def marks_of(axes):
    """Where points are drawn."""
    return [
        line.get_xydata()[0]
        for line in axes.lines
        if line.get_marker() in ('o', 'D', 'v')
    ]


@pytest.mark.parametrize('count', [1, 2, 12, 24])
def test_no_name_covers_another_or_a_point(drawn, count):
    points = crowd(count)
    plot_points(points, LABELS, 'A title', 'unused.png', 'log')
    (figure,) = drawn
    (axes,) = figure.axes
    names = {text.get_text(): text for text in axes.texts}
    assert {name.split(' (')[0] for name in names} == {p.name for p in points}
    boxes = [text.get_window_extent() for text in names.values()]
    places = axes.transData.transform(marks_of(axes))
    assert len(places) == count
    boxes += [Bbox.from_extents(*xy - 3, *xy + 3) for xy in places]
    for number, box in enumerate(boxes[:count]):
        assert figure.bbox.contains(*box.p0) and figure.bbox.contains(*box.p1)
        for other in boxes[:number] + boxes[count:]:
            shared = Bbox.intersection(box, other)
            assert shared is None or min(shared.size) < 1


def test_a_name_far_from_its_point_is_tied_to_it(drawn):
    points = [Point(f'method_{i}', 30 + 0.3 * i, 80) for i in range(9)]
    points.append(Point('alone', 90, 10))
    plot_points(points, LABELS, 'A title', 'unused.png')
    (axes,) = drawn[0].axes
    ties = [each for each in axes.lines if each.get_linewidth() == 0.5]
    marks = axes.transAxes.inverted().transform(
        axes.transData.transform([(point.x, point.y) for point in points])
    )
    assert 3 < len(ties) < 10
    for tie in ties:
        start = tie.get_xydata()[0]
        assert min(abs(marks[:9] - start).max(1)) < 1e-6


def test_points_in_one_place_share_a_text(drawn):
    points = [Point('a', 1, 2), Point('b', 3, 4), Point('c', 1, 2 + 1e-12)]
    points.append(Point('d', 1.1, 2))
    plot_points(points, LABELS, 'A title', 'unused.png')
    (axes,) = drawn[0].axes
    assert {text.get_text() for text in axes.texts} == {'a\nc', 'b', 'd'}
    assert len(marks_of(axes)) == 4  # error bars may differ


def test_what_is_far_below_leaves_the_others_their_room(drawn):
    points = [Point(f'method_{i}', i + 1, 90 + 0.1 * i) for i in range(9)]
    points.append(Point('lost', 5, 20, y_std=3))
    plot_points(points, LABELS, 'A title', 'unused.png')
    (axes,) = drawn[0].axes
    assert 89 < axes.get_ylim()[0] < 90
    assert 'lost (20.0)' in [text.get_text() for text in axes.texts]
    marks = [line.get_marker() for line in axes.lines]
    assert marks.count('v') == 1 and marks.count('o') == 9
    lowest = min(marks_of(axes), key=lambda mark: mark[1])
    assert tuple(lowest) == pytest.approx((5, 90 - 0.1 * 0.8))
    # But what others are compared with stays where it is.
    points[-1] = replace(points[-1], marker=REFERENCE)
    plot_points(points, LABELS, 'A title', 'unused.png')
    (axes,) = drawn[1].axes
    assert min(mark[1] for mark in marks_of(axes)) == 20
    assert 'lost' in [text.get_text() for text in axes.texts]


def test_error_bars_end_where_scores_do(drawn):
    points = [Point('a', 1, 3, x_std=4, y_std=5), Point('b', 9, 8, y_std=1)]
    plot_points(points, LABELS, 'A title', 'unused.png')
    (axes,) = drawn[0].axes
    bars = [each for each in axes.lines if each.get_linewidth() == 0.8]
    ends = {tuple(map(tuple, bar.get_xydata())) for bar in bars}
    assert ends == {
        ((0, 3), (5, 3)),
        ((1, 0), (1, 8)),
        ((9, 7), (9, 9)),
    }


def test_error_bars_do_not_reach_what_is_below(drawn):
    points = [Point(f'm_{i}', i + 1, 90 + 0.1 * i, y_std=2) for i in range(9)]
    plot_points([*points, Point('lost', 5, 20)], LABELS, 'A title', 'x.png')
    (axes,) = drawn[0].axes
    assert min(y for _, y in marks_of(axes)) < 88


def test_a_name_nearer_to_another_point_is_tied_to_its_own(drawn):
    points = [Point(f'method_{i}', 30 + 0.2 * i, 80) for i in range(6)]
    plot_points([*points, Point('far', 60, 70)], LABELS, 'A title', 'x.png')
    (axes,) = drawn[0].axes
    ties = [each for each in axes.lines if each.get_linewidth() == 0.5]
    tied = {tuple(tie.get_xydata()[0].round(6)) for tie in ties}
    to_axes = axes.transAxes.inverted().transform
    places = axes.transData.transform([(p.x, p.y) for p in points])
    marks = to_axes(places).round(6)
    for point, mark in zip(points, marks, strict=True):
        (text,) = (t for t in axes.texts if t.get_text() == point.name)
        box = text.get_window_extent()
        gaps = places - places.clip(box.p0, box.p1)
        nearest = abs(gaps).sum(1).argmin()
        if not (marks[nearest] == mark).all():
            assert tuple(mark) in tied


def test_the_reference_has_a_mark_of_its_own(drawn):
    points = [Point('a', 1, 2), Point('b', 2, 3, marker=REFERENCE)]
    plot_points(points, LABELS, 'A title', 'unused.png')
    marks = [
        line.get_marker()
        for line in drawn[0].axes[0].lines
        if line.get_marker() not in (None, 'None', '')
    ]
    assert marks == ['o', 'D']


def test_plots_of_a_benchmark(tmp_path):
    figures = plot_benchmark(RESULTS, tmp_path)
    assert list(figures.values()) == ['own_seconds.png', 'own_forget.png']
    for file in figures.values():
        assert Image.open(tmp_path / file).size[0] > 800
    first = [(tmp_path / file).read_bytes() for file in figures.values()]
    plot_benchmark(RESULTS, tmp_path)
    again = [(tmp_path / file).read_bytes() for file in figures.values()]
    assert first == again
    nothing = dict(RESULTS, methods=RESULTS['methods'][1:])
    assert plot_benchmark(nothing, tmp_path) == {}


def test_what_the_axes_show(drawn, tmp_path):
    plot_benchmark(RESULTS, tmp_path)
    (x, y), (left, retain) = (
        figure.axes[0].lines[0].get_xydata()[0] for figure in drawn
    )
    assert (x, y) == pytest.approx((61.26, 80))
    assert (left, retain) == pytest.approx((30, 70))
    label = 'highest AP_f or AP_o of any step (%), log scale above 1'
    assert drawn[1].axes[0].get_xlabel() == label


def test_zero_has_a_place_where_most_leave_little(drawn, tmp_path):
    plot_benchmark(RESULTS, tmp_path)
    axes = drawn[1].axes[0]
    transform = axes.get_xaxis_transform().transform
    zero, one, ten = (transform((x, 0))[0] for x in (0, 1, 10))
    assert zero < one < ten
    assert one - zero == pytest.approx(ten - one, rel=0.2)
