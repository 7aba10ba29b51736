from typing import Literal, get_args

from gslora_mm.lora import inject_lora
from gslora_mm.methods.settings import Count, Positive, Several
from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .ingredients.fine_tuning import fine_tune

#: What an attacker may train.
Trained = Literal['all', 'head', 'lora']


@ATTACKS.register_module()
class Relearning(BaseAttack):
    """Fine-tuning on a few images of what was forgotten.

    With their annotations, those of other classes in them, too. The class
    comes back in a model that never learned it as well; a model that only
    hides it is back sooner. A curve over iterations, for all weights, the
    head alone, and a new LoRA.

    Args:
        shots: Images of each forgotten class.
        iterations: When the score is taken, ascending.
        batch_size: Images of an iteration.
        lr: Learning rate of AdamW; ten times as much for a new LoRA.
        trained: What is trained, some of ``'all'``, ``'head'``, ``'lora'``.
    """

    name = 'relearning'
    metric = 'headline score'
    resisting = (
        'Fine-tuning brings the classes back no sooner than in a model that '
        'never learned them.'
    )
    shots: Count = 5
    iterations: Several[Count] = (20, 40, 60)
    batch_size: Count = 8
    lr: Positive = 2e-4
    trained: Several[Trained] = get_args(Trained)

    def cost(self, evidence):
        looks = len(self.iterations) * len(evidence.validation)
        training = 3 * max(self.iterations) * self.batch_size
        return len(self.trained) * (looks + training)

    def images(self, evidence):
        """What the attacker has."""
        return evidence.shots(self.shots, evidence.gone, evidence.seeds[0])

    def measure(self, evidence, suspect):
        images = self.images(evidence)
        for trained in self.trained:
            model, lr = evidence.model(suspect), self.lr
            if trained == 'head':
                model.requires_grad_(False)
                getattr(model, evidence.task.head).requires_grad_(True)
            elif trained == 'lora':
                inject_lora(model, rank=8, exclude=evidence.task.trunk)
                lr *= 10
            points = fine_tune(
                model,
                evidence.task,
                images,
                self.iterations,
                self.batch_size,
                lr,
                evidence.seeds[0],
            )
            for iteration in points:
                setting = dict(trained=trained, iterations=iteration)
                yield setting, evidence.score(model)
