from collections import Counter

import torch

from gslora_mm.methods.settings import Share
from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .outcome import Outcome


@ATTACKS.register_module()
class Redirection(BaseAttack):
    """What forgotten objects are called instead, and how surely.

    The share of them that get the name of a class that stays with a high
    probability. A confident wrong name is a fault of its own, and says that
    the model has learned where to put what it was to forget.

    Args:
        score: From which probability on a name is confident.
    """

    name = 'redirection'
    metric = 'share of confident wrong names'
    resisting = (
        'It gives confident wrong names no more often than a model that '
        'never learned the classes.'
    )
    reads = ('validation',)
    score: Share = 0.5

    def measure(self, evidence, suspect):
        rows = evidence.rows(suspect, 'validation')
        kept = torch.tensor(list(evidence.kept.values()))
        best, place = rows.probabilities[:, kept].max(1)
        is_sure = best >= self.score
        is_gone = torch.isin(
            rows.labels, torch.tensor(list(evidence.gone.values()))
        )
        names = list(evidence.kept)
        counts = Counter(
            names[i] for i in place[is_sure & is_gone].tolist()
        ).most_common(5)
        total = max(int(is_gone.sum()), 1)
        outcome = Outcome.of_rows(
            is_sure,
            rows.labels,
            evidence.gone,
            names={name: number / total for name, number in counts},
        )
        yield dict(score=self.score), outcome
