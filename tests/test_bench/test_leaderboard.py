"""The table of a benchmark."""

import copy

import pytest

from gslora_mm.bench.leaderboard import render_leaderboard


def spread(mean, std=None):
    return dict(mean=mean, std=std)


def step(forget, retain, old, h_mean):
    return dict(
        forget_score=spread(forget),
        retain_score=spread(retain, 0.01),
        old_score=spread(old),
        h_mean=spread(h_mean),
    )


def trial(number, h_mean=None, error=None, **settings):
    return dict(number=number, settings=settings, h_mean=h_mean, error=error)


DASH = dict(reason=None, trials=[], chosen=None, summary=None, runs=[])
RESULTS = dict(
    suite='own',
    title='Own methods',
    days=['2026-11-20', '2026-11-21'],
    command='python tools/analysis_tools/benchmark_methods.py own',
    seeds=[0, 1],
    scored_on='val.json',
    reference='retrain',
    tuning=dict(
        budget=4,
        steps=2,
        seed=100,
        scored_on='tune.json',
        settings={'schedule.max_iters': 9, 'a.b': 'c'},
        search={},
    ),
    conditions=[dict(jobs=2, threads='1', cores=2, torch='2.5', device='CPU')],
    metric='mAP',
    score='AP',
    pretrained=[
        dict(
            step=number,
            forget_before=0.9,
            retain_before=0.8,
            old_before=None if number == 1 else 0.85,
            h_mean_upper_bound=0.847,
        )
        for number in (1, 2)
    ],
    methods=[
        dict(
            DASH,
            name='der',
            trials=[
                trial(1, 0.5),
                trial(2, 0.6),
                trial(3, None, 'it | broke'),
            ],
            chosen=dict(
                trial(2, 0.6), values={'method.beta': 0.3, 'a.b.lr': 0.01}
            ),
            summary=dict(
                h_mean=spread(0.8, 0.0123),
                left_score=spread(0.3),
                seconds=spread(61.26),
                iterations=spread(300),
                peak_memory_mb=spread(812),
                trainable_share=spread(0.0213),
                stored_bytes=spread(98_765),
                gap=spread(None),
                steps=[
                    step(0.1, 0.75, None, 0.79),
                    step(0.2, 0.7, 0.05, 0.81),
                ],
            ),
            runs=[
                dict(seed=0, error=None, figures=dict(gap=None)),
                dict(seed=1, error='exit status 1: ' + 'a long story ' * 9),
            ],
        ),
        dict(DASH, name='lirf', reason='it needs a classifier'),
    ],
)


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def table(text, heading):
    """Rows of the table under a heading, by the name in their first cell."""
    lines = text.split(f'## {heading}\n\n')[1].split('\n\n')[0].splitlines()
    cells = [[c.strip() for c in row.strip('|').split('|')] for row in lines]
    header = cells[0]
    return {row[0]: dict(zip(header, row, strict=True)) for row in cells[2:]}


def test_a_row_shows_what_there_is(results):
    text = render_leaderboard(results, {'A plot': 'plot.png'})
    row = table(text, 'Leaderboard')['der']
    note = row.pop('note')
    assert row == {
        'Method': 'der',
        'H': '80.00 ± 1.23',
        'H 1': '79.00',
        'H 2': '81.00',
        'left': '30.00',
        's/step': '61',
        'it/step': '300',
        'peak MiB': '812',
        'trained %': '2.13',
        'stored kB/step': '98.8',
        'gap': '-',
    }
    assert note.startswith('seed 1 failed: exit status 1: a long')
    assert '* der: seed 1 failed: exit status 1: a long story a long' in text
    assert '* der: trial 3 failed: it | broke' in text
    assert '* der: means are of 1 of 2 seeds' in text
    assert '![A plot](plot.png)' in text
    assert 'before on the rest would have 84.70, 84.70;' in ' '.join(
        text.split()
    )


def test_what_attacks_find_has_columns(results):
    results['attacks'] = dict(
        linear_probe=dict(pretrained=0.977, retrained=[0.236, 0.28]),
        relearning=dict(pretrained=0.97, retrained=[0.31]),
    )
    summary = results['methods'][0]['summary']
    summary['distances'] = dict(
        linear_probe=spread(0.467, 0.031), relearning=spread(None)
    )
    error = 'its features are not finite'
    results['methods'][0]['runs'][0]['audit'] = dict(error=error)
    text = render_leaderboard(results, {})
    row = table(text, 'Leaderboard')['der']
    assert list(row)[4:7] == ['left', 'probe', 'relearn']
    assert (row['probe'], row['relearn']) == ('46.7 ± 3.1', '-')
    assert f'* der: audit of seed 0 failed: {error}' in text
    words = ' '.join(text.split())
    assert (
        'probe: 97.7 in the pre-trained model, 23.6, 28.0 after retraining; '
        'relearn: 97.0 in' in words
    )
    results['attacks'] = {}
    assert 'retraining' not in render_leaderboard(results, {})


def test_a_failed_trial_does_not_make_fewer_seeds(results):
    results['methods'][0]['runs'] = results['methods'][0]['runs'][:1]
    row = table(render_leaderboard(results, {}), 'Leaderboard')['der']
    assert row['note'] == 'trial 3 failed: it / broke'


def test_a_gap_of_fewer_seeds_is_said(results):
    runs = [
        dict(seed=seed, error=None, figures=dict(gap=gap))
        for seed, gap in enumerate([0.1, None])
    ]
    results['methods'][0].update(runs=runs, trials=[])
    row = table(render_leaderboard(results, {}), 'Leaderboard')['der']
    assert row['note'] == 'gap of 1 of 2 seeds: retrain lacks the rest'
    for run in runs:
        run['figures']['gap'] = 0.1
    row = table(render_leaderboard(results, {}), 'Leaderboard')['der']
    assert row['note'] == ''


def test_a_dash_has_its_reason(results):
    row = table(render_leaderboard(results, {}), 'Leaderboard')['lirf']
    assert row.pop('note') == 'it needs a classifier'
    assert {row.pop('Method'), *row.values()} == {'lirf', '-'}


def test_scores_of_each_step(results):
    rows = table(render_leaderboard(results, {}), 'AP of each step')
    assert list(rows) == ['(pre-trained)', 'der']
    assert rows['der'] == {
        'Method': 'der',
        'AP_f 1': '10.00',
        'AP_r 1': '75.00 ± 1.00',
        'AP_f 2': '20.00',
        'AP_r 2': '70.00 ± 1.00',
        'AP_o 2': '5.00',
    }
    assert rows['(pre-trained)']['AP_o 2'] == '85.00'


def test_header_and_tuning(results):
    text = render_leaderboard(results, {})
    head = ' '.join(text.split('## ')[0].split())
    assert head.startswith(
        '# Own methods - Date: 2026-11-20 to 2026-11-21 - Command: `py'
    )
    assert '- Seeds: 0, 1; mean ± sample standard deviation' in head
    assert '2 cores, CPU, torch 2.5, 2 at a time with 1 thread each' in head
    assert (
        '4 trials a method, the first one with its config as it is; best '
        'H-Mean of the first 2 steps on `tune.json`, seed 100' in head
    )
    assert '- Trials have schedule.max_iters=9, a.b=c - Chosen' in head
    assert '- Chosen: der beta=0.3, lr=0.01; all other settings' in head
    assert '- Scored on `val.json`: the last state of each step' in head
    assert table(text, 'Tuning') == {
        'der': {
            'Method': 'der',
            'Trials': 'all 3',
            'H as it is': '50.00',
            'H chosen': '60.00',
            'Chosen': 'beta=0.3, lr=0.01',
        }
    }
    results['tuning'] = None
    text = render_leaderboard(results, {})
    assert 'Tuning: none' in text and '## Tuning' not in text


def test_nothing_but_failures(results):
    results.update(metric=None, score='score', pretrained=None)
    results.update(conditions=[], days=[])
    results['methods'] = results['methods'][1:]
    text = render_leaderboard(results, {})
    assert 'it needs a classifier' in text
    assert '- Date: unknown\n' in text
    assert '## AP' not in text and '## score' not in text


def test_lines_are_of_a_readable_width(results):
    for line in render_leaderboard(results, {}).splitlines():
        assert len(line) <= 100 or line.startswith(('|', '*', '- Comm'))
