from gslora_mm.methods.settings import Share
from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .outcome import Outcome


@ATTACKS.register_module()
class Localisation(BaseAttack):
    """Forgotten objects that are found, whatever they are called.

    The share of objects with a box over them (IoU of 0.5 or more) whose
    score of any class is high: a forgotten *one* that comes back as an
    *eight* has not been forgotten as an object.

    Args:
        score: From which score on a box counts.
    """

    name = 'localisation'
    metric = 'recall'
    resisting = (
        'Its boxes find the objects, under any name, no more often than '
        'those of a model that never learned the classes.'
    )
    reads = ('validation',)
    score: Share = 0.3

    def why_not(self, evidence):
        if evidence.task.has_background:
            return None
        return f'a model for {evidence.task.name} has no boxes'

    def measure(self, evidence, suspect):
        rows = evidence.rows(suspect, 'validation')
        is_found = rows.found >= self.score
        outcome = Outcome.of_rows(is_found, rows.labels, evidence.gone)
        yield dict(score=self.score), outcome
