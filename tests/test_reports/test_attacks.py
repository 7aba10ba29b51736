import pytest

from gslora_mm.audits.audit_table import render_audit
from gslora_mm.reports.attacks import (
    attack_tables,
    read_audits,
    verdict,
    verdicts,
)
from gslora_mm.utils import ConfigError, save_json
from tests.audit_files import make_audit

CONTROL = dict(retrained=[0.5], separates=True)


@pytest.mark.parametrize(
    ('attack', 'word'),
    [
        (CONTROL | dict(resisted=True), 'resisted'),
        (CONTROL | dict(resisted=False), 'not resisted'),
        (CONTROL | dict(resisted=None), 'no verdict'),
        (CONTROL | dict(resisted=True, separates=False), 'says nothing'),
        (dict(retrained=[], resisted=True), 'no control'),
        (dict(retrained=None, separates=None), 'no control'),
        ({}, 'no control'),
    ],
)
def test_no_verdict_without_a_control_that_differs(attack, word):
    assert verdict(attack) == word


def test_one_setting_that_is_not_resisted_decides():
    good, bad = CONTROL | dict(resisted=True), CONTROL | dict(resisted=False)
    mute = CONTROL | dict(separates=False)
    attacks = dict(a=[good, bad, mute], b=[good, mute], c=[mute], d=[{}])
    audit = dict(
        attacks=[
            each | dict(name=name)
            for name, settings in attacks.items()
            for each in settings
        ]
    )
    assert verdicts(audit) == dict(
        a='not resisted', b='resisted', c='says nothing', d='no control'
    )


def test_tables_of_attacks():
    tables = dict(attack_tables(make_audit(1, ['dog', 'tie'])))
    assert [*tables] == [
        'linear probe (accuracy)',
        'relearning (accuracy)',
        'similarity (accuracy)',
    ]
    probe, relearning, similarity = tables.values()
    assert dict(zip(probe.header, probe.rows[0], strict=True)) == {
        'Setting': 'decoder.2, 5 shots',
        'Verdict': 'resisted',
        'After': '70.0 (66.0 to 74.0)',
        'Retrained': '69.0 to 71.0',
        'Allowed': '75.0',
        'Pre-trained': '93.0',
        'Worst class': 'dog 70.0, retrained 50.0',
    }
    assert relearning.rows[0][0] == 'iterations 10 60'
    assert similarity.rows[0][:2] == ['-', 'says nothing']


def test_settings_of_an_attack_are_rows_of_one_table():
    audit = make_audit(1, ['dog'])
    audit['attacks'][1]['name'] = 'linear_probe'
    audit['attacks'][0]['setting'] |= dict(shots=1)
    audit['attacks'][1]['setting'] = dict(depth='neck', shots=None, score=0.3)
    (_, probe), _ = attack_tables(audit)
    assert [row[0] for row in probe.rows] == [
        'decoder.2, 1 shot',
        'neck, all shots, score 0.3',
    ]


def worst_classes(audit):
    return [row[-1] for _, table in attack_tables(audit) for row in table.rows]


def test_the_worst_class_is_the_one_most_above_its_reference():
    audit = make_audit(1, ['dog', 'tie'], retrained=3)
    own = worst_classes(audit)
    assert own == [
        'dog 70.0, retrained 50.0 to 60.0',
        'dog 88.0, retrained 50.0 to 60.0',
        '-',
    ]
    audit |= dict(retrained=[{}] * 3, pretrained_sha256='ab' * 32)
    in_markdown = render_audit(audit)
    assert all(each in in_markdown for each in own)
    alone = make_audit(1, ['dog', 'tie'], retrained=0)
    assert {*worst_classes(alone)} == {'-'}


def test_what_an_attack_does_not_say_is_left_open():
    ((title, table),) = attack_tables(dict(attacks=[dict(name='own_attack')]))
    assert title == 'own attack'
    assert table.rows == [['-', 'no control', *5 * ['-']]]


def test_one_audit_or_several(tmp_path):
    path = tmp_path / 'audit.json'
    assert read_audits(path) == []
    first, second = make_audit(1, ['dog']), make_audit(2, ['car'])
    save_json(first, path)
    assert read_audits(path) == [first]
    save_json([second, first], path)
    assert read_audits(path) == [first, second]


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ('{', 'not valid JSON'),
        ('3', 'audit.json: step = None: valid: int'),
        ('[[]]', 'audit.json: step'),
        ('{"step": 1, "classes": "dog"}', "classes = 'dog': valid: list"),
        (
            '{"step": 1, "classes": [], "attacks": ["probe"]}',
            "attack = 'probe': has no name",
        ),
        (
            '{"step": 1, "classes": [], "attacks": [], "not_run": [{}]}',
            'attack = {}: has no name',
        ),
    ],
)
def test_what_is_no_audit(tmp_path, content, match):
    path = tmp_path / 'audit.json'
    path.write_text(content)
    with pytest.raises(ConfigError, match=match):
        read_audits(path)
