import re

import pytest

from gslora_mm.reports import build_report
from gslora_mm.reports.markdown import (
    TIMING_HEADING,
    render_markdown,
    report_context,
)
from tests.work_dirs import make_work_dir


@pytest.fixture
def report(tmp_path):
    return build_report(make_work_dir(tmp_path))


def render(report, score_name='AP', figures=None, note=''):
    return render_markdown(
        report_context(report, score_name, figures or {}, note)
    )


def tables(text):
    """Cells of every table of the text, header first, by lines."""
    blocks = re.findall(r'(?:^\|.*\|\n)+', text, re.MULTILINE)
    return [
        [[c.strip() for c in line[1:-1].split('|')] for line in b.split('\n')]
        for b in map(str.strip, blocks)
    ]


def test_tables_are_aligned_as_plain_text(report):
    text = render(report)
    blocks = re.findall(r'(?:^\|.*\|\n)+', text, re.MULTILINE)
    assert len(blocks) == 5
    for block in blocks:
        lines = block.splitlines()
        bars = [[m.start() for m in re.finditer(r'\|', x)] for x in lines]
        assert all(positions == bars[0] for positions in bars)
    assert max(map(len, text.splitlines()[:3])) < 100


def test_summary_has_the_scores_in_percent(report):
    head, _, first, second = tables(render(report))[0]
    assert head == [
        'Step', 'Forget', 'AP_f', 'AP_r', 'AP_o', 'H-Mean', 'Bound',
        'H / bound',
    ]  # fmt: skip
    assert first[:2] == ['1', 'dog, tie']
    assert first[4] == '-'  # nothing is old at the first step
    assert re.fullmatch(r'\d\d\.\d -> [01]\.\d', second[4])
    step = report['steps'][1]
    assert second[5] == f'{100 * step["h_mean"]:.1f}'
    ratio = step['h_mean'] / step['h_mean_upper_bound']
    assert second[7] == f'{100 * ratio:.1f}%'


def test_missing_classes_get_a_column_when_there_are_any(report):
    assert 'AP_m' not in render(report)
    report['steps'][0].update(missing_score=0.7, missing_before=0.8)
    head, _, first, second = tables(render(report))[0]
    assert head[5] == 'AP_m'
    assert (first[5], second[5]) == ('80.0 -> 70.0', '-')


def test_verification_gets_a_table_when_faces_were_verified(report):
    assert 'verification' not in render(report, 'Acc')
    report['steps'][1]['verification'] = {
        'forget': {
            'verification_auc': dict(before=0.9, now=0.55),
            'tar@far=0.01': dict(before=0.7, now=None),
        },
        'retain': {
            'verification_auc': dict(before=0.91, now=0.92),
            'tar@far=0.01': dict(before=None, now=0.6),
        },
    }
    report['steps'][0]['verification'] = {}
    text = render(report, 'Acc')
    head, _, *rows = tables(text[text.index('## Face verification') :])[0]
    assert head == ['Step', 'Split', 'AUC', 'TAR at FAR 0.01']
    assert rows == [
        ['2', 'forget', '90.0 -> 55.0', '-'],
        ['2', 'retain', '91.0 -> 92.0', '- -> 60.0'],
    ]


def test_learned_classes_get_a_column_when_there_are_any(report):
    assert 'AP_l' not in render(report)
    report['steps'][1].update(
        learned=['cat'], learned_score=0.7, learned_before=0.0
    )
    text = render(report)
    head, _, first, second = tables(text)[0]
    assert head[5] == 'AP_l'
    assert (first[5], second[5]) == ('-', '0.0 -> 70.0')
    assert 'AP_l on those' in text


def test_the_classes_that_a_mean_hides_are_named(report):
    # A run of an older version has none.
    report['steps'][0].pop('worst', None)
    report['steps'][1]['worst'] = dict(
        forget=['dog', 0.055], old=None, retain=['shirt', -0.1]
    )
    _, _, first, second = tables(render(report))[1]
    assert first == ['1', '-', '-', '-']
    assert second == ['2', 'dog 5.5', '-', 'shirt -10.0']


def test_without_an_adapter_there_are_no_groups(report):
    report['steps'][0]['groups'] = {}
    assert tables(render(report))[2][2][2] == '-'


def test_adapter_table(report):
    report['steps'][1]['stopped_early'] = True
    _, _, first, second = tables(render(report))[2]
    assert first == ['1', '300', '4 of 6', '24,576', '2.19%']
    assert second[1] == '300 (early stop)'


def test_forgotten_cells_are_marked(report):
    rows = tables(render(report))[3]
    assert rows[0] == ['Class', 'Before', 'Step 1', 'Step 2']
    cells = {row[0]: row[2:] for row in rows[2:]}
    assert re.fullmatch(r'\[\d\.\d\]', cells['dog'][0])
    assert re.fullmatch(r'\(\d\.\d\)', cells['dog'][1])
    assert re.fullmatch(r'\d\d\.\d', cells['car'][0])
    assert re.fullmatch(r'\[\d\.\d\]', cells['car'][1])
    assert re.fullmatch(r'\d\d\.\d', cells['zebra'][1])


def test_classes_without_a_score(report):
    report['pretrained']['per_class']['zebra'] = None
    report['steps'][0]['per_class']['zebra'] = None
    report['steps'][0]['h_mean'] = None
    text = render(report)
    (row,) = [r for r in tables(text)[3] if r[0] == 'zebra']
    assert row[1:3] == ['-', '-']
    assert tables(text)[0][2][5] == '-'
    assert 'nan' not in text and 'None' not in text


def test_times_stand_in_the_last_section_alone(report):
    text = render(report)
    above, _, below = text.partition(TIMING_HEADING)
    rows = tables(below)[0]
    assert [row[0] for row in rows[2:]] == ['pre-trained', '1', '2']
    assert rows[2][1:] == ['-', '1.2', '-']
    seconds = f'{report["steps"][0]["train_seconds"]:.1f}'
    assert rows[3][1:] == [seconds, '4.5', '812']
    assert 'second' not in above and '812' not in above


def test_many_classes_are_counted_not_listed_in_the_table(tmp_path):
    names = [f'category {n}' for n in range(20)]
    report = build_report(
        make_work_dir(
            tmp_path, requests=[names[:10], names[10:15]], classes=names
        )
    )
    text = render(report)
    assert tables(text)[0][2][1] == '10 classes'
    assert '1. category 0, category 1, ' in text
