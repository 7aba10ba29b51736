import torch

from gslora_mm.methods.settings import Count, Several
from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .ingredients.softmax_regression import LinearProbe
from .outcome import Outcome, mean_outcome


@ATTACKS.register_module()
class LinearProbeAttack(BaseAttack):
    """A new linear classifier on frozen features, from a few objects a class.

    Whoever has the weights, and a few labelled images of what was forgotten,
    trains a softmax regression on what a layer says of them. With many
    images it finds the classes in any model that sees at all, so that few
    separate better; the papers' own probe (arXiv 2501.09705) is the last
    layer with all.

    Args:
        shots: Objects of each class, forgotten ones and all others.
        with_all: Whether the last depth is probed with all of them, too.
    """

    name = 'linear_probe'
    metric = 'accuracy'
    resisting = (
        'A new classifier finds no more in its features than in those of a '
        'model that never learned the classes.'
    )
    reads = ('training', 'validation')
    shots: Several[Count] = (1, 5, 10)
    with_all: bool = True

    def measure(self, evidence, suspect):
        known = evidence.rows(suspect, 'training')
        asked = evidence.rows(suspect, 'validation')
        depths = list(known.features)
        for shots in self.shots:
            draws = {
                seed: few_of_each(known.labels, shots, seed)
                for seed in evidence.seeds
            }
            for depth in depths:
                found = [
                    self.probe(evidence, known, asked, depth, index, seed)
                    for seed, index in draws.items()
                ]
                yield dict(depth=depth, shots=shots), mean_outcome(found)
        if self.with_all:
            every = torch.arange(len(known.labels))
            setting = dict(depth=depths[-1], shots=None)
            yield (
                setting,
                self.probe(evidence, known, asked, depths[-1], every, 0),
            )

    @staticmethod
    def probe(evidence, known, asked, depth, index, seed):
        """Train on some rows of a depth, and score on all others."""
        features = known.features[depth][index]
        probe = LinearProbe(seed=seed).fit(features, known.labels[index])
        right = probe.predict(asked.features[depth]) == asked.labels
        return Outcome.of_rows(right, asked.labels, evidence.gone)


def few_of_each(labels: torch.Tensor, shots: int, seed: int) -> torch.Tensor:
    """Draw rows of each class.

    Args:
        labels (Tensor): Class ids, shape (N, ).
        shots (int): Rows of a class; all, where there are fewer.
        seed (int): Of the draw.

    Returns:
        Tensor: Positions, ascending.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        order = torch.randperm(len(rows), generator=generator)
        chosen.append(rows[order[:shots]])
    return torch.cat(chosen).sort().values
