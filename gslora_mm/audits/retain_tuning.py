from gslora_mm.methods.settings import Count, Positive, Several
from gslora_mm.registry import ATTACKS
from .relearning import Relearning, Trained


@ATTACKS.register_module()
class RetainTuning(Relearning):
    """Fine-tuning on images that show nothing of what was forgotten.

    What anybody does who adapts a published model. Classes that it only
    hides may come back by themselves (arXiv 2505.22310, arXiv 2410.08827).

    Args:
        share: Of the training images without a forgotten class.
        iterations, batch_size, lr: As in :class:`Relearning`.
    """

    name = 'retain_tuning'
    resisting = (
        'Fine-tuning on what it was to keep does not bring the classes back.'
    )
    share: Positive = 0.2
    iterations: Several[Count] = (60,)
    trained: Several[Trained] = ('all',)

    def images(self, evidence):
        return evidence.retained_images(self.share, evidence.seeds[0])
