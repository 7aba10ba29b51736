import torch

from gslora_mm.registry import METHODS
from .scrub import SCRUB
from .settings import NonNegative, PerStep, Share


@METHODS.register_module()
class SCRUBS(SCRUB):
    r"""SCRUB-S: SCRUB with smoothing.

    The variant of :class:`SCRUB` in GS-LoRA's tables,
    https://arxiv.org/abs/2403.11530. Its S is the smoothing of "Smoothed
    gradient descent-ascent": both phases are held close to a slow average
    :math:`\bar\theta` of the weights,

    .. math::
        L = L_{SCRUB} + p \sum_i \Vert \theta_i - \bar\theta_i \Vert_2,
        \qquad \bar\theta \leftarrow d\, \bar\theta + (1 - d)\, \theta

    over all tensors i that are trained: those of the adapter, or of the
    whole model without one. The average starts with the step, and takes
    the weights in at the end of each epoch. The norms are not squared;
    where they are zero, their gradient counts as zero. (The code of these
    tables takes the weights in about ten times less often, after a cycle of
    five epochs with and five without maximisation: there, the same p holds
    back more.)

    Args:
        alpha, gamma, temperature, msteps: As in :class:`SCRUB`.
        smoothing: p, for faces in the tables.
        decay: d.
    """

    name = 'scrub_s'
    smoothing: PerStep[NonNegative] = 0.1
    decay: PerStep[Share] = 0.9

    def setup(self, model):
        self.trained = [p for p in model.model.parameters() if p.requires_grad]
        for i, parameter in enumerate(self.trained):
            self.register_buffer(f'average_{i}', parameter.detach().clone())
        self.register_buffer('epochs_averaged', torch.tensor(0))

    def losses(self, forget, retain):
        yield from super().losses(forget, retain)
        distances = [
            torch.linalg.vector_norm(parameter - average)
            for parameter, average in self._pairs()
        ]
        yield {'loss_smoothing': self.smoothing * torch.stack(distances).sum()}

    @torch.no_grad()
    def after_update(self, optimizer):
        # With accumulated gradients an epoch may end between two updates.
        epochs, _ = self.phase_at(self.iteration + 1)
        if epochs == self.epochs_averaged:
            return
        for parameter, average in self._pairs():
            average.lerp_(parameter, 1 - self.decay)
        self.epochs_averaged.fill_(epochs)

    def _pairs(self):
        """What is trained, each tensor with its average."""
        for i, parameter in enumerate(self.trained):
            yield parameter, self.get_buffer(f'average_{i}')
