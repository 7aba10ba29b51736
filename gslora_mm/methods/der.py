from __future__ import annotations

from torch import Tensor

from gslora_mm.registry import METHODS
from .distillation import Distillation


@METHODS.register_module()
class DER(Distillation):
    r"""Dark Experience Replay.

    Buzzega, Boschini, Porrello, Abati and Calderara, "Dark Experience for
    General Continual Learning", NeurIPS 2020,
    https://arxiv.org/abs/2004.07211.

    .. math::
        L = \beta\, L_{forget} + \alpha\, \mathrm{mean}_{ik}\,
        (s_{ik} - t_{ik})^2

    over images (matched queries) i and kept classes k. Replay is by logits
    alone: the class labels of the retain half do not enter. For what
    detectors have beside them, see :class:`Distillation`.

    The original stores logits with the images of its buffer, as they were
    when an image came by. Here they are those of the model when the step
    begins, for any augmentation: in the first step the same, in later ones
    those of a model that has forgotten what was asked before.
    The public code of GS-LoRA's tables compares embeddings for classifiers;
    this is the original.

    Args:
        beta (float): Weight of the forget half; a list in a config has one
            value a step. Defaults to 1.0 (the paper).
        alpha (float): Weight of the replayed logits; a list in a config has
            one value a step. Defaults to 0.5. (The paper tunes it for each
            data set.)
    """

    name = 'der'

    def __init__(self, beta: float = 1.0, alpha: float = 0.5) -> None:
        super().__init__(beta, alpha)

    def distance(
        self, student: Tensor, teacher: Tensor, activation: str
    ) -> Tensor:
        # Not mse_loss, which is not a number without rows.
        return (student - teacher).square().sum() / max(student.numel(), 1)
