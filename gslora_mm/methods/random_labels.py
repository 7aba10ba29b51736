from __future__ import annotations

from gslora_mm.registry import METHODS
from .relabelled import RelabelledForgetting


@METHODS.register_module()
class RandomLabels(RelabelledForgetting):
    r"""Random labels for what is to be forgotten, and replay.

    "Amnesiac Machine Learning", AAAI 2021,
    https://arxiv.org/abs/2010.10981: the method called unlearning there.

    .. math::
        L = L_{retain} + \beta\, L(x_f, \tilde y), \quad
        \tilde y \sim \mathrm{Uniform}(\text{retained classes})

    The paper draws among all classes but the image's own. Here only those
    that the step retains are drawn: another forgotten class, of this step or
    an earlier one, would be taught again. Labels are drawn anew every time
    an image is seen, so that none of them is learned by heart. For a
    detector, a wrong name would be a false positive of another class, so
    that the objects become background.

    Args:
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 1.0.
    """

    name = 'random_labels'

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(beta)
