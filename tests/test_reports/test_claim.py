import pytest

from gslora_mm.reports import build_report
from gslora_mm.reports.claim import SCOPE, claim, untested
from tests.audit_files import make_audit
from tests.work_dirs import make_work_dir


def audit_of(step, classes, file='same', **kwargs):
    """An audit, with what the evidence adds to it."""
    return make_audit(step, classes, **kwargs) | dict(file=file)


@pytest.fixture
def report(tmp_path):
    return build_report(make_work_dir(tmp_path))


def test_a_claim_has_the_figures_of_the_last_step(report):
    report['pretrained']['per_class'] |= dict(dog=0.5, tie=0.6, car=0.7)
    last = report['steps'][1]
    last['per_class'] |= dict(dog=0.003, tie=0.0, car=0.02, cat=0.1)
    change = 100 * (0.1 - report['pretrained']['per_class']['cat'])
    behaviour, price, depth = claim(report, 'AP', [])
    assert '(dog, tie, car) is 0.0 to 2.0 % on the validation' in behaviour
    assert 'it was 50.0 to 70.0 % before' in behaviour
    before, now = last['retain_before'], last['retain_score']
    assert f'went from {100 * before:.1f} to {100 * now:.1f} %' in price
    assert f'{change:+.1f} points (cat)' in price
    assert 'no audit' in depth


def test_before_the_first_step_nothing_is_claimed(tmp_path):
    report = build_report(make_work_dir(tmp_path, finished=0))
    (sentence,) = claim(report, 'AP', [])
    assert 'nothing has been forgotten yet' in sentence


def test_classes_without_a_score_are_not_claimed(report):
    for name in ('dog', 'tie', 'car'):
        report['pretrained']['per_class'][name] = None
        report['steps'][1]['per_class'][name] = None
    assert 'is not measured on' in next(claim(report, 'AP', []))
    assert 'without a score' in ' '.join(untested(report, []))


def test_verdicts_are_told_with_what_they_are_relative_to(report):
    audit = audit_of(2, ['car'], retrained=3)
    *_, depth, bad, good, mute = claim(report, 'AP', [audit])
    assert 'step 2 was attacked in 3 ways' in depth
    assert 'the concept of car' in depth
    assert mute.startswith('No verdict (the attack does not tell the pre-')
    assert mute.endswith('): similarity.')
    assert bad.startswith('Not resisted (more was found than in 3 models')
    assert bad.endswith('without these classes): relearning.')
    assert good.startswith('Resisted (no more was found than in 3 models')
    assert good.endswith(': linear probe.')


def test_without_a_control_nothing_is_resisted(report):
    *_, last = claim(report, 'AP', [audit_of(2, ['car'], retrained=0)])
    assert last.startswith('No verdict (no control): linear probe, relearn')
    text = ' '.join(claim(report, 'AP', [audit_of(2, [], retrained=0)]))
    assert 'esisted' not in text


def test_attacks_on_another_file_are_no_claim(report):
    audit = audit_of(2, ['car'], file='another')
    *_, last = claim(report, 'AP', [audit])
    assert 'another file than the model of step 2' in last
    assert 'esisted' not in last
    assert 'resisted' in ' '.join(claim(report, 'AP', [audit_of(2, ['car'])]))


def test_no_report_certifies_anything():
    assert 'complian' not in SCOPE.lower() and 'no proof' in SCOPE


def test_what_was_not_tested(report):
    audit = audit_of(1, ['dog'], file='another')
    report['steps'].pop()
    report['requests'].append(['cat'])
    (other, not_run, unfinished, rest) = untested(report, [audit])
    assert 'step 1 as it lies there now: another file' in other
    assert not_run == 'Attack membership on step 1: there are no images.'
    assert unfinished == 'Requests whose step is not finished: 2.'
    assert 'single records' in rest


def test_an_audit_of_an_earlier_step_says_nothing_of_the_last(report):
    audit = audit_of(1, ['dog'])
    assert 'The model of the last step, 2, was not' in ' '.join(
        untested(report, [audit])
    )
    last = audit_of(2, ['dog'])
    assert 'The model of' not in ' '.join(untested(report, [audit, last]))
