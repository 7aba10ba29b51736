"""What a report claims, and what it does not, in plain words."""

from collections.abc import Iterator, Mapping, Sequence

from gslora_mm.utils.text import percent, shortened
from .attacks import range_text, verdicts, words

#: How far any claim reaches.
SCOPE = (
    'This holds for these classes, these images and these attacks. It is '
    'evidence against the attacks that are listed and against no other, no '
    'proof that the information is gone from the weights, and no statement '
    'about a law or a contract.'
)


def claim(
    report: Mapping, score: str, audits: Sequence[Mapping]
) -> Iterator[str]:
    """Say what was shown, sentence by sentence.

    Args:
        report (Mapping): See :func:`build_report`.
        score (str): Short name of the score, e.g. 'AP'.
        audits (Sequence[Mapping]): See :func:`read_audits`; with ``file``,
            see :func:`read_evidence`.

    Yields:
        str: The behaviour of the last model, what it cost the retained
        classes, and what each audit found.
    """
    if not report['steps']:
        yield 'No step is finished: nothing has been forgotten yet.'
        return
    last = report['steps'][-1]
    before, now = report['pretrained']['per_class'], last['per_class']
    gone = [*last['old'], *last['forget']]

    def scores(found: Mapping) -> str:
        text = range_text([found.get(name) for name in gone])
        return 'not measured' if text == '-' else f'{text} %'

    yield (
        f'Behaviour: after step {last["step"]} the {score} of each class that '
        f'was to be forgotten ({shortened(gone, 12)}) is {scores(now)} on '
        f'the validation images; it was {scores(before)} before any '
        'forgetting.'
    )
    changes = {
        name: now[name] - before[name]
        for name in last['retain']
        if None not in (now.get(name), before.get(name))
    }
    if changes:
        worst = min(changes, key=changes.__getitem__)
        yield (
            f'Price: the mean {score} of the retained classes went from '
            f'{percent(last["retain_before"])} to '
            f'{percent(last["retain_score"])} %; the worst change of one of '
            f'them is {100 * changes[worst]:+.1f} points ({worst}).'
        )
    for audit in audits:
        yield from _outcome(audit)
    if not audits:
        yield (
            'Depth: there is no audit here, so nothing is said about what '
            'the features and weights still hold.'
        )


def _outcome(audit: Mapping) -> Iterator[str]:
    """What came of the attacks on one step."""
    if audit['file'] == 'another':
        yield (
            f'Depth: another file than the model of step {audit["step"]} that '
            'lies there now was attacked, so what was found says nothing '
            'about this one.'
        )
        return
    by_word: dict[str, list[str]] = {}
    for name, word in verdicts(audit).items():
        by_word.setdefault(word, []).append(words(name))
    count = max(
        (len(each.get('retrained') or []) for each in audit['attacks']),
        default=0,
    )
    if audit.get('claim', 'concept') == 'concept':
        subject = 'the concept'
    else:
        subject = str(audit['claim'])
    yield (
        f'Depth: the model of step {audit["step"]} was attacked in '
        f'{sum(map(len, by_word.values()))} ways to bring back {subject} of '
        f'{shortened(audit["classes"], 12)}.'
    )
    models = 'a model' if count == 1 else f'{count} models'
    meanings = {
        'not resisted': f'Not resisted (more was found than in {models} '
        'retrained without these classes)',
        'resisted': f'Resisted (no more was found than in {models} '
        'retrained without these classes)',
        'no verdict': 'No verdict (for information)',
        'says nothing': 'No verdict (the attack does not tell the pre-trained '
        'model from retrained ones)',
    }
    for word in [*meanings, *sorted(by_word.keys() - meanings.keys())]:
        if word in by_word:
            meaning = meanings.get(word, f'No verdict ({word})')
            yield f'{meaning}: {", ".join(by_word[word])}.'


def untested(report: Mapping, audits: Sequence[Mapping]) -> Iterator[str]:
    """Say what was not tested, and why.

    Args:
        report (Mapping): See :func:`build_report`.
        audits (Sequence[Mapping]): See :func:`read_audits`; with ``file``,
            see :func:`read_evidence`.

    Yields:
        str: Attacks that were not run, classes without a score, requests
        that are not done, and what no report of this kind can tell.
    """
    for audit in audits:
        if audit['file'] == 'another':
            yield (
                f'The model of step {audit["step"]} as it lies there now: '
                'another file was attacked.'
            )
        for attack in audit['not_run'] or []:
            reason = attack.get('reason') or 'no reason given'
            yield (
                f'Attack {words(attack["name"])} on step {audit["step"]}: '
                f'{reason.rstrip(".")}.'
            )
    steps = report['steps']
    if audits and steps and steps[-1]['step'] != audits[-1]['step']:
        yield (
            f'The model of the last step, {steps[-1]["step"]}, was not '
            'attacked; only an earlier one was.'
        )
    asked = [name for request in report['requests'] for name in request]
    unscored = [
        name
        for name in asked
        if report['pretrained']['per_class'].get(name) is None
    ]
    if unscored:
        yield (
            'Classes without a score, as no validation image shows them: '
            f'{shortened(unscored)}.'
        )
    if len(steps) < len(report['requests']):
        yield (
            'Requests whose step is not finished: '
            f'{len(report["requests"]) - len(steps)}.'
        )
    yield (
        'Attacks that are not listed in this report, other images than '
        'those it was measured on, and single records: which of them were in '
        'the training data is another question than which classes are known.'
    )
