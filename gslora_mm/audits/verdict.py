"""What the figures of an attack say beside those of retrained models."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from .base import BaseAttack
from .outcome import Outcome


def compare(
    attack: BaseAttack,
    setting: Mapping[str, Any],
    pretrained: Outcome,
    after: Outcome,
    retrained: Sequence[Outcome],
    spread: float = 0.0,
) -> dict:
    """An entry of ``attacks`` in ``audit.json``.

    All models are compared on the same bootstrap samples, so that what is
    hard in a sample is hard for all. The reference is the retrained model in
    which the attack finds most, and what a further retrained model might
    show: models trained twice differ by more than chance in the objects.

    Args:
        attack (BaseAttack): The attack.
        setting (Mapping): Its setting.
        pretrained (Outcome): Before any forgetting.
        after (Outcome): After the step.
        retrained (Sequence[Outcome]): Of models that never learned the
            classes; without one there is no verdict.
        spread (float): See :func:`training_spread`. Defaults to 0.

    Returns:
        dict: With ``separates`` (whether the attack tells the pre-trained
        model from the retrained ones), ``resisted`` (whether the model
        after the step cannot be told from them, or shows less; None without
        a control, or where the attack does not separate) and ``worst``, the
        class with the most above the reference.
    """
    separates = resisted = worst = None
    if retrained and attack.decides:
        separates = _is_above(
            attack, pretrained.overall, [each.overall for each in retrained]
        )
        resisted = None
        if separates:
            references = [each.overall for each in retrained]
            resisted = not _is_above(attack, after.overall, references, spread)
        worst = _worst(attack, after, retrained, spread)
    return dict(
        name=attack.name,
        setting=dict(setting),
        metric=attack.metric,
        higher_is_leak=True,
        two_sided=attack.two_sided,
        decides=attack.decides,
        pretrained=_number(pretrained.score),
        after=_number(after.score),
        after_interval=[_number(each) for each in after.interval],
        retrained=[_number(each.score) for each in retrained],
        per_class={k: _number(v[0]) for k, v in after.per_class.items()},
        separates=separates,
        resisted=resisted,
        worst=worst,
        details=after.details,
    )


def _worst(
    attack: BaseAttack,
    after: Outcome,
    retrained: Sequence[Outcome],
    spread: float,
) -> dict | None:
    """The class that is most above the reference, and whether by chance."""
    excess = {}
    for name in after.per_class:
        references = [
            each.per_class[name]
            for each in retrained
            if name in each.per_class
        ]
        if references and np.isfinite(after.per_class[name][0]):
            excess[name] = (
                _excess(attack, after.per_class[name], references),
                references,
            )
    excess = {k: v for k, v in excess.items() if np.isfinite(v[0][0])}
    if not excess:
        return None
    name = max(excess, key=lambda each: excess[each][0][0])
    own, references = after.per_class[name], excess[name][1]
    return dict(
        name=name,
        after=_number(own[0]),
        retrained=[_number(each[0]) for each in references],
        resisted=not _is_above(attack, own, references, spread),
    )


def training_spread(retrained: Sequence[Sequence[float]]) -> float:
    r"""How far a further retrained model may be above the mean of others.

    .. math:: t_{0.975, d}\, s\, \sqrt{1 + 1 / n}

    the half width of the interval of 95 % for one more of n models, with
    the standard deviation s between them pooled over the settings of an
    attack, and d its degrees of freedom.

    Args:
        retrained (Sequence[Sequence[float]]): For each setting the figures
            of the n models.

    Returns:
        float: 0 with a single model, which says nothing of it.
    """
    figures = np.array(retrained, float)
    figures = figures[np.isfinite(figures).all(1)]
    settings, models = figures.shape
    freedom = settings * (models - 1)
    if not freedom:
        return 0.0
    s = np.sqrt(figures.var(1, ddof=1).mean())
    return float(t.ppf(0.975, freedom) * s * np.sqrt(1 + 1 / models))


def _is_above(
    attack: BaseAttack,
    own: np.ndarray,
    references: Sequence[np.ndarray],
    spread: float = 0.0,
) -> bool:
    """Whether a figure is above all references, and not by chance.

    Neither by chance in the objects, nor by that of one training more.
    """
    excess = _excess(attack, own, references)
    mean = np.mean([_leak(attack, each[0]) for each in references])
    return bool(
        excess[0] > 0
        and np.nanpercentile(excess[1:], 2.5) > 0
        and _leak(attack, own[0]) > mean + spread
    )


def _excess(
    attack: BaseAttack, own: np.ndarray, references: Sequence[np.ndarray]
) -> np.ndarray:
    """What a model shows more than the reference, by bootstrap sample."""
    most = np.max([_leak(attack, each) for each in references], axis=0)
    return _leak(attack, own) - most


def _leak(attack: BaseAttack, values: np.ndarray) -> np.ndarray:
    """Figures of which more is worse."""
    return np.abs(values - 0.5) if attack.two_sided else values


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
