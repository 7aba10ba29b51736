from gslora_mm.registry import METHODS
from .base import BaseMethod


@METHODS.register_module()
class FineTune(BaseMethod):
    r"""Fine-tuning on what is to be kept.

    .. math:: L = L_{retain}

    from where the step before ended. What is forgotten is forgotten only
    because nothing reminds of it: "Eternal Sunshine of the Spotless Net",
    CVPR 2020, https://arxiv.org/abs/1911.04933, which has it as a baseline.
    Of a detector it is more: objects of a forgotten class in the retain
    images are background there.
    """

    name = 'fine_tune'
    needs = ('retain',)

    def losses(self, forget, retain):
        yield {'loss_retain': retain.loss}
