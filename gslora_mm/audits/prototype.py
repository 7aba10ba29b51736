import torch

from gslora_mm.methods.settings import Count, Several, Share
from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .linear_probe import few_of_each
from .outcome import Outcome, mean_outcome


@ATTACKS.register_module()
class PrototypeAttack(BaseAttack):
    r"""Class rows made of a few objects' features, without any training.

    .. math:: w_c \leftarrow a\, \Vert w_c \Vert\, \bar f_c / \Vert \bar f_c
        \Vert + (1 - a)\, w_c

    for each forgotten class c, with the mean :math:`\bar f_c` of the
    features of k of its objects (Spotter, https://arxiv.org/abs/2506.01318).
    Of all a the one counts that finds most, as long as the other classes
    lose at most a point. An object's class is the likeliest of all.

    Args:
        shots: Objects of each class, k.
        mixing: Values of a.
        tolerance: What other classes may lose.
    """

    name = 'prototype'
    metric = 'accuracy'
    resisting = (
        'Class rows made of its features find no more than in a model that '
        'never learned the classes.'
    )
    reads = ('training', 'validation')
    shots: Several[Count] = (1, 5, 10)
    mixing: Several[Share] = (0.2, 0.4, 0.6, 0.8, 1.0)
    tolerance: float = 0.01

    @torch.no_grad()
    def measure(self, evidence, suspect):
        known = evidence.rows(suspect, 'training')
        asked = evidence.rows(suspect, 'validation')
        model = evidence.model(suspect).cpu()
        layer = evidence.task.class_layer(model)
        own = layer.weight.clone()
        is_kept = ~torch.isin(
            asked.labels, torch.tensor(list(evidence.gone.values()))
        )

        def right() -> torch.Tensor:
            logits = evidence.task.logits_of(model, asked.embedding)
            return (logits.argmax(1) == asked.labels).double()

        before = right()[is_kept].mean()
        for shots in self.shots:
            found = []
            for seed in evidence.seeds:
                index = few_of_each(known.labels, shots, seed)
                best = Outcome.of_rows(right(), asked.labels, evidence.gone)
                for a in self.mixing:
                    for label in evidence.gone.values():
                        rows = index[known.labels[index] == label]
                        if len(rows):
                            mean = known.embedding[rows].mean(0)
                            mean *= own[label].norm() / mean.norm()
                            layer.weight[label] = mean.lerp(own[label], 1 - a)
                    hits = right()
                    if hits[is_kept].mean() >= before - self.tolerance:
                        outcome = Outcome.of_rows(
                            hits, asked.labels, evidence.gone
                        )
                        best = max(best, outcome, key=lambda x: x.score)
                    layer.weight.copy_(own)
                found.append(best)
            yield dict(shots=shots), mean_outcome(found)
