from gslora_mm.registry import METHODS
from .group_sparse import GroupSparse
from .ingredients.drawn_images import DrawnImages
from .ingredients.teacher import Teacher
from .settings import Count, NonNegative, PerStep


@METHODS.register_module()
class MaskedDistillation(GroupSparse):
    r"""The model as it was, with the classes to forget ruled out.

    .. math::
        L = \sum_{h \in \{f, r\}} \beta\, L_{gone}(x_h) + w_{hold}\,
        L_{held}(x_h) + \alpha_s\, L_{structure}

        L_{gone} = -\log (1 - p_F), \quad L_{held} = \mathrm{KL}(\sigma(t_R)
        \,\Vert\, \sigma(s_R))

    with the probability :math:`p_F` of all classes F that the step forgets,
    and the logits of all others, R, of the model as the step began, t, and as
    it is, s. Both terms are asked of every image at hand, whatever it shows,
    and no label is looked at. So classes of R without any image are held by
    what the teacher says of them on the images of others, where training by
    labels would deny them in every one; either half may be empty; and of a
    detector all queries are held, with their boxes.

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
        drawn_images: Images drawn for each class without any.
        drawn_batch_size: How many of them an iteration sees.
        drawing_iterations: Steps in which they are drawn.
    """

    name = 'masked_distillation'
    needs = ()
    # Its teacher speaks so. Asked with dropout to say what a teacher says
    # without it, a student learns to make up for the dropout.
    in_evaluation_mode = True
    can_learn = False
    ends_at_zero = False
    beta: PerStep[NonNegative] = 1.0
    margin: PerStep[NonNegative] = 2.0
    w_hold: PerStep[NonNegative] = 1.0
    drawn_images: Count = 12
    drawn_batch_size: Count = 16
    drawing_iterations: Count = 100

    def prepare(self, model, dataset):
        self.teacher = Teacher(model, dataset)
        self.drawn = None
        if not len(dataset.datasets[0]):
            labels = dataset.datasets[0].labels.tolist()
            self.drawn = DrawnImages(
                model,
                dataset,
                labels,
                self.drawn_images * len(labels),
                self.drawing_iterations,
                self.drawn_batch_size,
            )

    def losses(self, forget, retain):
        if self.drawn is not None:
            forget = self.drawn.half()
        for half in (forget, retain):
            if len(half):
                yield self.terms(half)
        if self.groups:
            yield self.structure()

    def terms(self, half):
        """What is to be gone from and to be held in one half."""
        outputs, is_kept = self.teacher.outputs(half), self.teacher.is_kept
        gone = half.presence_of(outputs, ~is_kept, self.margin)
        held = half.distance_to(outputs, is_kept)
        loss = self.beta * gone + self.w_hold * held
        return {
            f'loss_{half.role}': loss,
            f'gone_{half.role}': gone.detach(),
            f'held_{half.role}': held.detach(),
        }
