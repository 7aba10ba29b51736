"""What the figures of an attack say beside those of retrained models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from .base import BaseAttack
from .outcome import Outcome

#: Of a hundred retrained models so many may fail an attack.
FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Spread:
    """What one training more may do to a figure, as an angle.

    Attributes:
        overall (float): How far a further retrained model may be above the
            mean of the others.
        of_class (float): The same, in a single class.
    """

    overall: float = 0.0
    of_class: float = 0.0


def compare(
    attack: BaseAttack,
    setting: Mapping[str, Any],
    pretrained: Outcome,
    after: Outcome,
    retrained: Sequence[Outcome],
    spread: Spread = Spread(),
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
        spread (Spread): See :func:`training_spreads`. Defaults to none.

    Returns:
        dict: With ``separates`` (whether the attack tells the pre-trained
        model from the retrained ones), ``resisted`` (whether the model
        after the step cannot be told from them, or shows less; None without
        a control, or where the attack does not separate), ``allowed`` (the
        highest figure that one training more explains) and ``worst``, the
        class with the most above the reference.
    """
    separates = resisted = worst = allowed = None
    if retrained and attack.decides:
        references = [each.overall for each in retrained]
        separates = _is_above(
            attack, pretrained.overall, references, spread.overall
        )
        if separates:
            resisted = not _is_above(
                attack, after.overall, references, spread.overall
            )
        allowed = _number(_highest(attack, references, spread.overall))
        worst = _worst(attack, after, retrained, spread.of_class)
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
        allowed=allowed,
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


def training_spreads(
    found: Sequence[tuple[BaseAttack, Sequence[Sequence[Outcome]]]],
) -> dict[str, Spread]:
    r"""How far a further retrained model may be above the mean of others.

    .. math:: t_{1 - 0.05 / m,\, (n - 1) d}\; s\, \sqrt{1 + 1 / n}

    Figures are angles, :math:`2 \arcsin \sqrt p`, which differ from one
    training to the next by about as much whatever p is. So the standard
    deviation s between the n models is pooled over the settings of all
    attacks on shares (or on areas under a curve): two models are alike in
    one of them by luck, and not in all.

    Settings go up and down together, so that k of them are worth fewer
    independent ones: :math:`d = (\sum \lambda)^2 / \sum \lambda^2`, with the
    eigenvalues :math:`\lambda` of their covariance over models and classes
    (Satterthwaite's degrees of freedom of a pooled variance). m is the same
    number for the settings of the attack alone, as the highest of m figures
    is what decides. For a class, s is that of the attack's classes where it
    is larger than that of all, and m is times their number.

    Args:
        found (Sequence): Attacks, and what each of them finds in every one
            of the n retrained models in every setting.

    Returns:
        dict[str, Spread]: By name of the attack; none with a single model,
        which says nothing of it.
    """
    kinds: dict[bool, list] = {}
    for attack, outcomes in found:
        if attack.decides and len(outcomes) > 1:
            kinds.setdefault(attack.is_share, []).append(
                (attack, *_angles(attack, outcomes))
            )
    spreads = {}
    for members in kinds.values():
        overall = np.concatenate([each[1] for each in members], 1)
        classes = np.concatenate([each[2] for each in members], 1)
        # What is 0 or 1 in all models says nothing of a figure between.
        varies = np.ptp(overall, axis=0) > 0
        if not varies.any():
            continue
        freedom = (len(overall) - 1) * _independent(classes[:, varies])

        def spread(figures: np.ndarray, number: float, d=freedom) -> float:
            s = np.sqrt(np.nanmean(figures.var(0, ddof=1)))
            quantile = t.ppf(1 - FALSE_ALARMS / number, d)
            return quantile * s * np.sqrt(1 + 1 / len(figures))

        for attack, figures, own in members:
            number = _independent(own)
            # A class comes back whole or not in some attacks, not in all.
            chosen = [classes[:, varies]]
            if np.ptp(figures, axis=0).any():
                chosen.append(own[:, np.ptp(figures, axis=0) > 0])
            spreads[attack.name] = Spread(
                spread(overall[:, varies], number),
                max(
                    spread(each, number * own.shape[2])
                    for each in chosen
                ),
            )
    return spreads


def _angles(
    attack: BaseAttack, outcomes: Sequence[Sequence[Outcome]]
) -> tuple[np.ndarray, np.ndarray]:
    """Figures of models by setting, and by setting and class."""
    names = list(outcomes[0][0].per_class)
    overall = [[each.score for each in model] for model in outcomes]
    classes = [
        [[each.per_class[name][0] for name in names] for each in model]
        for model in outcomes
    ]
    return tuple(
        _angle(_leak(attack, np.array(figures)))
        for figures in (overall, classes)
    )


def _independent(figures: np.ndarray) -> float:
    """How many independent settings some settings are worth, 1 or more.

    Args:
        figures (np.ndarray): Shape (models, settings, classes).
    """
    deviations = figures - figures.mean(0)
    rows = deviations.transpose(0, 2, 1).reshape(-1, figures.shape[1])
    rows = rows[np.isfinite(rows).all(1)]
    covariance = rows.T @ rows
    total = np.trace(covariance)
    return total**2 / np.square(covariance).sum() if total else 1.0


def _is_above(
    attack: BaseAttack,
    own: np.ndarray,
    references: Sequence[np.ndarray],
    spread: float,
) -> bool:
    """Whether a figure is above all references, and not by chance.

    Neither by chance in the objects, nor by that of one training more.
    """
    excess = _excess(attack, own, references)
    return bool(
        excess[0] > 0
        and np.nanpercentile(excess[1:], 2.5) > 0
        and _leak(attack, own[0]) > _highest(attack, references, spread)
    )


def _highest(
    attack: BaseAttack, references: Sequence[np.ndarray], spread: float
) -> float:
    """The highest figure that is one of a retrained model."""
    figures = np.array([_leak(attack, each[0]) for each in references])
    angle = min(_angle(figures).mean() + spread, np.pi)
    return max(figures.max(), np.sin(angle / 2) ** 2)


def _excess(
    attack: BaseAttack, own: np.ndarray, references: Sequence[np.ndarray]
) -> np.ndarray:
    """What a model shows more than the reference, by bootstrap sample."""
    most = np.max([_leak(attack, each) for each in references], axis=0)
    return _leak(attack, own) - most


def _leak(attack: BaseAttack, values: np.ndarray) -> np.ndarray:
    """Figures of which more is worse."""
    return 0.5 + np.abs(values - 0.5) if attack.two_sided else values


def _angle(shares: np.ndarray) -> np.ndarray:
    """Shares as angles, from 0 to pi, whose variance depends little on p."""
    return 2 * np.arcsin(np.sqrt(np.clip(shares, 0, 1)))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
