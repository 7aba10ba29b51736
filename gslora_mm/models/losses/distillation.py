import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = ('softmax', 'sigmoid')


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    activation: str = 'softmax',
) -> Tensor:
    r"""Divergence of a student's outputs from its teacher's.

    .. math::
        \mathrm{mean}_i\, \mathrm{KL}(\sigma(t_i / T) \,\Vert\,
        \sigma(s_i / T))

    with logits :math:`s` of the student and :math:`t` of the teacher. For a
    softmax this is "Distilling the Knowledge in a Neural Network",
    https://arxiv.org/abs/1503.02531, less the teacher's entropy: zero at the
    teacher and positive elsewhere. With a sigmoid each class is a
    distribution of its own, over yes and no, and their divergences are
    summed. The factor :math:`T^2` of that paper is left to the caller.

    Logarithms are of logits, never of probabilities, let alone of
    logarithms: the public code of the papers did the latter, and its
    distillation term was not a number and became zero.

    Args:
        logits (Tensor): Of the student, shape (N, classes).
        teacher_logits (Tensor): Of the teacher, the same shape; they get no
            gradient.
        temperature (float): T. Defaults to 1.0.
        activation (str): ``'softmax'`` or ``'sigmoid'``. Defaults to
            ``'softmax'``.

    Returns:
        Tensor: Scalar, in float32 at least; zero for an empty batch.

    Raises:
        ValueError: If the shapes do not fit, the temperature is not
            positive or the activation is unknown.
    """
    if logits.dim() != 2 or logits.shape != teacher_logits.shape:
        raise ValueError(
            f'logits {tuple(logits.shape)} and teacher_logits '
            f'{tuple(teacher_logits.shape)} must have one shape (N, classes)'
        )
    if not temperature > 0:
        raise ValueError(f'temperature must be positive, got {temperature}')
    if activation not in ACTIVATIONS:
        raise ValueError(
            f'activation must be one of {ACTIVATIONS}, got {activation!r}'
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    student = logits.to(dtype) / temperature
    teacher = teacher_logits.detach().to(dtype) / temperature
    if activation == 'softmax':
        log_q = F.log_softmax(student, dim=1)
        log_p = F.log_softmax(teacher, dim=1)
        kl = log_p.exp() * (log_p - log_q)
    else:
        yes, no = F.logsigmoid(teacher), F.logsigmoid(-teacher)
        kl = yes.exp() * (yes - F.logsigmoid(student))
        kl = kl + no.exp() * (no - F.logsigmoid(-student))
    return kl.sum() / max(len(logits), 1)
