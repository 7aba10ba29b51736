from typing import ClassVar, Literal

import torch

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .ingredients.class_means import ClassMeans
from .masked_distillation import MaskedDistillation
from .settings import NonNegative, PerStep


@METHODS.register_module()
class CounterfactualDistillation(MaskedDistillation):
    r"""The model sees an image as it saw it without what is to be forgotten.

    .. math::
        L = w_{layers}\, \mathrm{mean}_l \frac{\Vert h_l(x) - h^*_l(x)
        \Vert^2} {\Vert h^0_l(x) - h^*_l(x) \Vert^2} + w_{hold}\,
        L_{held}(x, t^*) + \beta\, L_{gone}(x) + w_{labels} L_{retain}
        + \alpha_s\, L_{structure}

    with :math:`h_l` what each Transformer block gives, :math:`h^0_l` what
    the same block of the model as the step began - the teacher - gives, and
    :math:`h^*_l` and the outputs :math:`t^*` what the teacher gives for the
    counterfactual of the image:

    * of a detector, the image with the objects to forget painted over, in
      both halves: most images to retain show some of them. All tokens of the
      encoder and all queries of the decoder are held to it, and those of the
      neck where it is trained, with scores and boxes of every decoder layer;
      so that retained objects, which stay in the picture, are held by the
      same terms, without a label.
    * of a classifier, where an image is all that it shows, the teacher's own
      view less the mean of its class, plus the mean of what is retained:
      features whose class means are all alike tell no linear classifier the
      classes apart (LEACE, https://arxiv.org/abs/2306.03819; with the labels
      at hand, as here, the edit is exact). What is particular to the image
      stays.

    A retain image that shows nothing to forget is its own counterfactual, and
    its unit is the variance of :math:`h^*_l`. :math:`L_{gone}` and
    :math:`L_{held}` are those of :class:`MaskedDistillation`, but that in a
    detector's :math:`L_{gone}` a query counts for what the model itself finds
    in it, as the teacher finds nothing in a hole. Where that method,
    like GS-LoRA, takes a class from what the model says, this takes it from
    what its layers know: the level *features*, which a new classifier on
    them attacks. Fine-tuning still brings the class back. The idea of a
    painted-over teacher for detectors is of this project.

    A LoRA on the FFNs alone is too weak for it: adapt all linear layers.

    Args:
        alpha_s, warmup_iters, warmup_epochs, sparsity, loss_structure: As in
            :class:`GroupSparse`.
        beta, margin, w_hold, teacher_of: As in :class:`MaskedDistillation`;
            with the teacher of a sequence, later steps would learn anew to
            see what earlier ones forgot.
        w_layers: Weight of the layers.
        unit: What their distances are measured in: ``'change'``, what they
            have to change by, as in the formula, or ``'variance'``, that of
            :math:`h^*_l` in both halves.
        w_labels: Weight of the model's own loss on the retain half.
        overshoot: Of a classifier, how often the mean of the class is taken
            away; more than once, because what is learned on replay images
            goes only part of the way on others.
    """

    name = 'counterfactual'
    level = 'features'
    beta: PerStep[NonNegative] = 1.0
    margin: PerStep[NonNegative] = 2.0
    w_hold: PerStep[NonNegative] = 1.0
    w_layers: PerStep[NonNegative] = 3.0
    w_labels: PerStep[NonNegative] = 0.0
    unit: Literal['change', 'variance'] = 'change'
    overshoot: PerStep[NonNegative] = 1.3
    teacher_of: str = 'step'
    # They are painted over, or spared.
    knows_other_objects = True
    # Whether what is held says that classes to forget are not there, or
    # nothing of them.
    ruled_out: ClassVar[bool] = False

    def prepare(self, model, dataset):
        if not len(dataset.datasets[0]):
            raise ConfigError(
                'forgetting.forget_share',
                0,
                f'{type(self).__name__} needs images of what is to be '
                'forgotten, to see them without it; MaskedDistillation does '
                'without',
            )
        gone_before = self.gone
        super().prepare(model, dataset)
        self.means = None
        self.can_paint = model.task.has_background
        if self.can_paint and gone_before is not None:
            # What the teacher no longer names has to be painted over, too.
            self.gone |= gone_before
        if not self.can_paint:
            self.means = self.class_means(model, dataset)

    def class_means(self, model, dataset):
        """The means that make the counterfactual of a classifier's image."""
        return ClassMeans(model, dataset, self.teacher)

    def terms(self, half):
        gone = half.presence_of(None, self.gone, self.margin)
        loss = self.beta * gone
        held = layers = gone.new_zeros(())
        if self.teaches(half):
            view, before = self.counterfactual(half)
            held = half.distance_to(view.outputs, ~self.gone, self.ruled_out)
            layers = layer_distance(half.layers, view.layers, before.layers)
            loss = loss + self.w_hold * held + self.w_layers * layers
        if self.w_labels and half.role == 'retain':
            loss = loss + self.w_labels * half.loss
        return {
            f'loss_{half.role}': loss,
            f'gone_{half.role}': gone.detach(),
            f'held_{half.role}': held.detach(),
            f'layers_{half.role}': layers.detach(),
        }

    def teaches(self, half):
        """Whether a half is held to its counterfactual."""
        return True

    def counterfactual(self, half):
        """The teacher's view of a half without what is to be forgotten.

        And behind it the view that gives the unit of distances.
        """
        if not self.can_paint:
            view = seen = self.teacher.views(half)
            if half.role == 'forget':
                view = self.means.removed(seen, half.labels, self.overshoot)
            return view, seen if self.unit == 'change' else view
        view = self.teacher.views(half, half.without_objects(self.gone))
        # One look more, where it is needed.
        is_needed = self.unit == 'change'
        return view, self.teacher.views(half) if is_needed else view


def layer_distance(
    layers: dict[str, torch.Tensor],
    others: dict[str, torch.Tensor],
    before: dict[str, torch.Tensor],
) -> torch.Tensor:
    """Mean over layers of squared differences, in units of what is to change.

    Args:
        layers (dict[str, Tensor]): By depth, shape (..., C).
        others (dict[str, Tensor]): Those to come near to.
        before (dict[str, Tensor]): Those of the model as it was, whose mean
            squared difference from ``others`` is the unit: objects are few
            of the tokens of an image. Where nothing is to change, it is the
            variance over images and positions.

    Returns:
        Tensor: A scalar: 0 where nothing differs, 1 for the model as it was
        where something is to change.
    """
    distances = []
    for depth, found in layers.items():
        other = others[depth].float()
        unit = (before[depth].float() - other).square().mean()
        rows = other.flatten(0, -2)
        variance = (rows - rows.mean(0)).square().mean()
        unit = torch.where(unit > 1e-6 * variance, unit, variance)
        distance = (found.float() - other).square().mean()
        distances.append(distance / unit.clamp(min=1e-12))
    return torch.stack(distances).mean()
