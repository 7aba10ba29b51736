import numpy as np

from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .outcome import Outcome


@ATTACKS.register_module()
class Collateral(BaseAttack):
    """What single classes that stay have lost.

    The largest fall of the score of one of them: averages hide it. By
    retained class, and the retained class whose row is nearest to that of a
    forgotten one apart. It informs, and decides nothing.
    """

    name = 'collateral'
    metric = 'largest loss of a retained class'
    resisting = 'No verdict: what may be lost is for its users to say.'
    decides = False

    def cost(self, evidence):
        return len(evidence.validation)

    def measure(self, evidence, suspect):
        before, after = map(
            evidence.kept_score, (evidence.original, suspect)
        )
        losses = {
            name: before.per_class[name] - after.per_class[name]
            for name in before.per_class
        }
        known = {k: v for k, v in losses.items() if np.isfinite(v[0])}
        if not known:
            return
        worst = max(known, key=lambda name: known[name][0])
        outcome = Outcome(
            known[worst],
            losses,
            dict(worst_class=worst, nearest=self.nearest(evidence, losses)),
        )
        yield {}, outcome

    @staticmethod
    def nearest(evidence, losses):
        """Loss of the retained class that is most like a forgotten one."""
        rows = evidence.task.class_weights(evidence.model(evidence.original))
        rows = rows / rows.norm(dim=1, keepdim=True)
        kept = list(evidence.kept)
        others = rows[list(evidence.kept.values())]
        found = {}
        for name, label in evidence.gone.items():
            like = kept[int((others @ rows[label]).argmax())]
            found[name] = [like, float(losses[like][0])]
        return found
