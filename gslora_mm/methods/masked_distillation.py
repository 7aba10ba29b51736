from typing import Literal

import torch

from gslora_mm.registry import METHODS
from .group_sparse import GroupSparse
from .ingredients.drawn_images import DrawnImages
from .ingredients.teacher import Teacher
from .ingredients.weight_drift import trained_weights
from .settings import Count, NonNegative, PerStep


@METHODS.register_module()
class MaskedDistillation(GroupSparse):
    r"""The model as it was, with the classes to forget ruled out.

    .. math::
        L = \sum_{h \in \{f, r\}} \beta\, L_{gone}(x_h) + w_{hold}\,
        L_{held}(x_h) + \alpha_s\, L_{structure}

        L_{gone} = -\log (1 - p_F), \quad L_{held} = \mathrm{KL}(\sigma(t_R)
        \,\Vert\, \sigma(s_R))

    with the probability :math:`p_F` of all classes F forgotten up to and in
    the step, and the logits of all others, R, of a teacher, t, and of the
    model, s. The teacher is the model as it was before any forgetting, so
    that no step takes over what an earlier one has lost; its weights are
    carried on by file. Both terms are asked of every image at hand, whatever
    it shows, and no label is looked at. So classes of R without any image are
    held by what the teacher says of them on the images of others, where
    training by labels would deny them in every one; either half may be empty;
    and of a detector all queries are held, with their boxes.

    With :math:`\beta = w_{hold}` and no margin the two terms are the
    divergence :math:`\mathrm{KL}(\sigma(\mathrm{mask}(t)) \,\Vert\,
    \sigma(s))` of :class:`DELETE` (https://arxiv.org/abs/2503.23751), taken
    apart by the chain rule; that paper asks it of the forget images alone.
    The adapter and its groups are those of GS-LoRA.

    Without an image to forget (``forgetting.forget_share = 0``), the forget
    half is drawn from the model itself, see
    :class:`~gslora_mm.methods.ingredients.drawn_images.DrawnImages`.

    Args:
        alpha_s, warmup_iters, warmup_epochs, sparsity, loss_structure: As in
            :class:`GroupSparse`.
        beta: Weight of what is to be gone.
        margin: Added to the logits of F in :math:`p_F`: how far below the
            others they have to fall, so that they do not come back when later
            steps move the model.
        w_hold: Weight of what is to be held.
        teacher_of: ``'sequence'``, the model before any forgetting, or
            ``'step'``, the model as the step began, which needs no file and
            forgets in F the classes of the step alone.
        drawn_images: Images drawn for each class without any.
        drawn_batch_size: How many of them an iteration sees.
        drawing_iterations: Steps in which they are drawn.
    """

    name = 'masked_distillation'
    forget_weight = 'beta'
    needs = ()
    # Its teacher speaks so. Asked with dropout to say what a teacher says
    # without it, a student learns to make up for the dropout.
    in_evaluation_mode = True
    can_learn = False
    ends_at_zero = False
    carries_state = True
    beta: PerStep[NonNegative] = 1.0
    margin: PerStep[NonNegative] = 2.0
    w_hold: PerStep[NonNegative] = 3.0
    teacher_of: Literal['sequence', 'step'] = 'sequence'
    drawn_images: Count = 12
    drawn_batch_size: Count = 16
    drawing_iterations: Count = 100

    def __post_init__(self):
        super().__post_init__()
        # Of the teacher, and which classes are forgotten: in a file of
        # their own.
        self.weights, self.gone = {}, None

    def setup(self, model):
        super().setup(model)
        self.shapes = {k: v.shape for k, v in trained_weights(model).items()}

    def prepare(self, model, dataset):
        labels = dataset.datasets[0].labels.tolist()
        if self.gone is None or self.teacher_of == 'step':
            self.gone = torch.zeros(len(dataset.metainfo['classes'])).bool()
        self.gone[labels] = True
        if self.teacher_of == 'sequence' and not self.weights:
            weights = trained_weights(model).items()
            self.weights = {k: v.detach().clone() for k, v in weights}
        self.teacher = Teacher(model, dataset, self.weights)
        self.drawn = []
        if not len(dataset.datasets[0]):
            # Those forgotten before, too, as a whole as many images.
            before = set(self.gone.nonzero().flatten().tolist()) - {*labels}
            self.drawn = [
                self.draw(model, dataset, classes, len(labels))
                for classes in (labels, sorted(before))
                if classes
            ]

    def draw(self, model, dataset, classes, times):
        """Draw images of some classes by the teacher."""
        with self.teacher.earlier_weights():
            return DrawnImages(
                model,
                dataset,
                classes,
                self.drawn_images * times,
                self.drawing_iterations,
                self.drawn_batch_size,
            )

    def carried_state(self):
        return {
            'gone': self.gone,
            **{f'weights.{name}': v for name, v in self.weights.items()},
        }

    def load_carried_state(self, state):
        names = {key.removeprefix('weights.') for key in state} - {'gone'}
        wanted = self.shapes if self.teacher_of == 'sequence' else {}
        if 'gone' not in state or names != set(wanted):
            raise ValueError(
                f'holds weights of {len(names)} layers, not of {len(wanted)}; '
                f'method.teacher_of is {self.teacher_of!r}'
            )
        self.gone = state['gone'].bool()
        self.weights = {name: state[f'weights.{name}'] for name in names}
        shapes = {name: value.shape for name, value in self.weights.items()}
        if shapes != wanted:
            raise ValueError('holds weights of another model')

    def losses(self, forget, retain):
        if self.drawn:
            forget = self.drawn[self.iteration % len(self.drawn)].half()
        for half in (forget, retain):
            if len(half):
                yield self.terms(half)
        if self.groups:
            yield self.structure()

    def terms(self, half):
        """What is to be gone from and to be held in one half."""
        outputs = self.teacher.outputs(half)
        gone = half.presence_of(outputs, self.gone, self.margin)
        held = half.distance_to(outputs, ~self.gone)
        loss = self.beta * gone + self.w_hold * held
        return {
            f'loss_{half.role}': loss,
            f'gone_{half.role}': gone.detach(),
            f'held_{half.role}': held.detach(),
        }
