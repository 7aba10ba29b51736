import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gslora_mm.registry import ATTACKS
from gslora_mm.tasks import ObjectRows
from .base import BaseAttack
from .outcome import Outcome, resampled_auc, resampled_counts


@ATTACKS.register_module()
class Membership(BaseAttack):
    """Telling trained-on objects of forgotten classes from others.

    A logistic regression on the logarithm of the true class's probability,
    the entropy and the highest probability is fitted on retained classes,
    training against validation objects, and asked of the forgotten ones
    (Shokri et al., S&P 2017, https://arxiv.org/abs/1610.05820, with one
    attack model for all classes). An area under the curve near 0 is as
    telling as one near 1.
    """

    name = 'membership'
    metric = 'AUC'
    is_share = False
    resisting = (
        'Objects that it was trained on cannot be told from others, or no '
        'better than for a model that never learned the classes.'
    )
    reads = ('training', 'validation')
    two_sided = True

    def measure(self, evidence, suspect):
        members = evidence.rows(suspect, 'training')
        others = evidence.rows(suspect, 'validation')
        rows = np.concatenate([signs(members), signs(others)])
        labels = np.concatenate([members.labels, others.labels])
        is_member = np.arange(len(labels)) < len(members.labels)
        kept = np.isin(labels, list(evidence.kept.values()))
        rows = StandardScaler().fit(rows[kept]).transform(rows)
        attack = LogisticRegression(class_weight='balanced')
        attack.fit(rows[kept], is_member[kept])
        scores = attack.decision_function(rows)

        def auc(wanted: np.ndarray) -> np.ndarray:
            return resampled_auc(
                scores[wanted],
                is_member[wanted],
                resampled_counts(wanted.sum()),
            )

        yield (
            {},
            Outcome(
                auc(~kept),
                {
                    k: auc(labels == label)
                    for k, label in evidence.gone.items()
                },
            ),
        )


def signs(rows: ObjectRows) -> np.ndarray:
    """What tells a member, shape (N, 3)."""
    found: Tensor = rows.probabilities.double().clamp(1e-12, 1)
    own = found.gather(1, rows.labels[:, None]).log()
    entropy = -(found * found.log()).sum(1, keepdim=True)
    highest = found.amax(1, keepdim=True)
    return np.concatenate([own, entropy, highest], 1)
