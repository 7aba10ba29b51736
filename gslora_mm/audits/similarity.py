import numpy as np
import torch
from torch import Tensor

from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .outcome import Outcome, resampled_counts

SAMPLES = 50


@ATTACKS.register_module()
class Similarity(BaseAttack):
    """How alike features of forgotten objects are to those before, by layer.

    Linear CKA (Kornblith et al., ICML 2019,
    https://arxiv.org/abs/1905.00414) to the pre-trained model. It can be
    manipulated, and two trainings from scratch are less alike than any
    erasure is to its origin: it informs, and decides nothing.
    """

    name = 'similarity'
    metric = 'CKA to the pre-trained model'
    resisting = 'No verdict: read it beside the other attacks.'
    reads = ('validation',)
    decides = False

    def measure(self, evidence, suspect):
        own = evidence.rows(suspect, 'validation')
        original = evidence.rows(evidence.original, 'validation')
        for depth, features in own.features.items():
            others = original.features[depth]

            def alike(rows: Tensor, a=features, b=others) -> np.ndarray:
                # No verdict hangs on it, so that fewer samples do.
                counts = resampled_counts(int(rows.sum()))[: 1 + SAMPLES]
                return resampled_cka(a[rows], b[rows], counts)

            labels = own.labels
            gone = torch.tensor(list(evidence.gone.values()))
            yield (
                dict(depth=depth),
                Outcome(
                    alike(torch.isin(labels, gone)),
                    {k: alike(labels == v) for k, v in evidence.gone.items()},
                ),
            )


def resampled_cka(x: Tensor, y: Tensor, counts: np.ndarray) -> np.ndarray:
    """Linear centred kernel alignment on bootstrap samples.

    Args:
        x (Tensor): Features, shape (N, C).
        y (Tensor): Features of the same objects, (N, D).
        counts (np.ndarray): How often each is in a sample, (B, N).

    Returns:
        np.ndarray: Shape (B, ), 1 where they are the same but for a
        rotation and a scale; NaN with fewer than two different objects.
    """
    x, y, found = x.double(), y.double(), []
    for weights in torch.tensor(counts).double()[:, :, None]:
        total = weights.sum().clamp(min=1)
        # Rows weighted by the root of their count, means by the count.
        a, b = (
            weights.sqrt() * (rows - (weights * rows).sum(0) / total)
            for rows in (x, y)
        )
        shared = (a.T @ b).square().sum()
        own = (a.T @ a).norm() * (b.T @ b).norm()
        found.append(float(shared / own) if own > 0 else float('nan'))
    return np.array(found)
