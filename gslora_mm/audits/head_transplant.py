from gslora_mm.registry import ATTACKS
from .base import BaseAttack


@ATTACKS.register_module()
class HeadTransplant(BaseAttack):
    """The pre-trained model's head on the features that are left.

    Whoever kept the head of the model as it was - it is published with many
    models - puts it back: class layer, and box layers of a detector. It
    finds what only the head has forgotten.
    """

    name = 'head_transplant'
    metric = 'headline score'
    resisting = (
        'The head that knew the classes finds no more in its features than '
        'in those of a model that never learned them.'
    )

    def cost(self, evidence):
        return len(evidence.validation)

    def measure(self, evidence, suspect):
        model = evidence.model(suspect)
        head = getattr(model, evidence.task.head)
        original = evidence.model(evidence.original)
        donor = getattr(original, evidence.task.head)
        head.load_state_dict(donor.state_dict())
        yield {}, evidence.score(model)
