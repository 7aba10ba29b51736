import logging
from typing import Annotated, Literal

import torch
from mmengine.logging import print_log

from gslora_mm.models.losses import bounded_forgetting_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils.distributed import mean_over_processes
from .gs_lora import GSLoRA
from .ingredients.bounded import bounded_forgetting
from .ingredients.losses import LossConfig, build_loss
from .ingredients.prototypes import Prototypes
from .ingredients.teacher import Teacher
from .settings import Count, NonNegative, PerStep, Positive, path

StateFile = Annotated[
    str | None,
    path(
        'must be the path of a file such as '
        "'work_dirs/run/step_01/method.safetensors', or None"
    ),
]

#: Settings of the two forms of the prototype loss: ours, and that of the
#: paper with its weights (COCO; it leaves the pull at 0).
FORMS = dict(
    relative=dict(
        loss_prototype='gslora_mm.RelativePrototypeLoss',
        w_f=0.3,
        w_r=5.0,
        bound_pro=1.0,
        w_hold=6.0,
        prototype_source='features',
    ),
    published=dict(
        loss_prototype='gslora_mm.PrototypeLoss',
        w_f=0.005,
        w_r=0.005,
        bound_pro=18.0,
        w_hold=0.0,
    ),
)


@METHODS.register_module()
class GSLoRAPP(GSLoRA):
    r"""GS-LoRA++: group-sparse LoRA, guided by prototypes.

    "Practical Continual Forgetting for Pre-trained Vision Models", T-PAMI,
    https://arxiv.org/abs/2501.09705.

    .. math::
        L = L_{retain} + \beta\, L_{forget} + \alpha_s\, L_{structure}
        + L_{prototype}

        L_{prototype} = w_f\, \mathrm{ReLU}(BND_{pro} - d_f) + w_r\, d_r

    Features :math:`f_i`, the embeddings before the last class layer, are
    pushed away from the prototype :math:`p_{y_i}` of their class in the
    forget half, up to a bound, and pulled to it in the retain half. The other
    terms are those of :class:`GSLoRA`. The distance d has two forms,

    .. math::
        d_{published} = \mathrm{mean}_i\, \mathrm{KL}(
        \mathrm{softmax}(p_{y_i}) \,\Vert\, \mathrm{softmax}(f_i)), \quad
        d_{relative} = \frac{\mathrm{mean}_i\, (1 - \cos(f_i, p_{y_i}))}
        {\mathrm{mean}_{j \neq k}\, (1 - \cos(p_j, p_k))}

    The paper's is of features as they are, whose scale and width differ from
    model to model, so that its weights mean something else on each: at those
    of the paper, GS-LoRA++ was GS-LoRA on all models of this project. The
    relative one is 0 at the prototype and 1 as far away as another class.

    The relative form holds what else the model says of the retain half, as
    :class:`MaskedDistillation` does: of a few images, the retain loss alone
    learns these images.

    .. math::
        w_{hold}\, \mathrm{KL}(\sigma(t_R) \,\Vert\, \sigma(s_R))

    with the logits of all classes R that are not forgotten in the step, of a
    teacher, t, the model as the step began, and of the model, s. On the
    forget half it would work against the push. There, what was forgotten in
    earlier steps must not come back, as what is pushed away from one class
    has to go somewhere: :math:`w_{hold}\, (-\log (1 - p_{old}))`.

    Prototypes come from the model *as it was before any forgetting* and
    serve all steps: they are made in the first one, without the adapter, and
    carried on by file. They are either the mean feature of each class over
    the replay images, or the rows of the last class layer. A class without
    replay images in the first step has no mean; its features are left out
    of the term, and nothing else.

    The average of the adapter's weights that the papers' scripts use is
    :class:`~gslora_mm.training.AdapterEMAHook`.

    Args:
        beta, bound, alpha_s: As in :class:`GSLoRA`.
        warmup_iters, warmup_epochs, sparsity: As there.
        loss_forget, loss_structure: As there.
        form: ``'relative'`` or ``'published'``; says what the next four,
            ``prototype_source`` and ``loss_prototype`` are where they are
            None, see :data:`FORMS`.
        w_f: Weight of the push.
        w_r: Weight of the pull. The published scripts leave it at 0.
        bound_pro: BND_pro, the distance at which a feature counts as pushed
            away.
        w_hold: Weight of what the teacher says of the retain half, and of
            what was forgotten before; has to be 0 with
            ``forgetting.learn``. The published form has none.
        prototypes: File with prototypes to use, the ``method.safetensors``
            of another run with the same pre-trained checkpoint; None makes
            them in step 1.
        prototype_source: ``'features'`` or ``'class_layer'``. None: features,
            but of detectors in the published form the class layer.
        prototype_passes: Passes over the replay images, through the training
            pipeline with its augmentations.
        prototype_batch_size: Images of a batch in these passes.
        loss_prototype: Type or config of the module that gives d for
            features, labels and prototypes.
    """

    name = 'gs_lora_pp'
    carries_state = True
    learns_with = 'method.w_hold = 0'
    state_argument = 'prototypes'
    form: Literal['relative', 'published'] = 'relative'
    w_f: PerStep[NonNegative | None] = None
    w_r: PerStep[NonNegative | None] = None
    bound_pro: PerStep[Positive | None] = None
    w_hold: PerStep[NonNegative | None] = None
    prototypes: StateFile = None
    prototype_source: Literal['features', 'class_layer', None] = None
    prototype_passes: Count = 1
    prototype_batch_size: Count = 16
    loss_prototype: LossConfig | None = None

    def __post_init__(self):
        super().__post_init__()
        for name, default in FORMS[self.form].items():
            if getattr(self, name) is None:
                setattr(self, name, default)
        # A teacher that has not learned a class holds it back.
        self.can_learn = not self.w_hold
        self.teacher = None
        self.prototype_loss = build_loss(
            'method.loss_prototype', self.loss_prototype
        )
        self.class_prototypes = Prototypes(self.prototype_source)
        # Which classes are forgotten, those of the step included.
        self.gone = torch.zeros(0, dtype=torch.bool)

    def setup(self, model):
        super().setup(model)
        self.class_prototypes.source = (
            self.class_prototypes.source or model.task.prototype_source
        )
        if self.class_prototypes.source == 'class_layer':
            # Not kept, but a head without such a layer is found out here,
            # before any training.
            model.task.class_weights(model.model)

    def prepare(self, model, dataset):
        if not len(self.gone):
            self.gone = torch.zeros(len(dataset.metainfo['classes'])).bool()
        self.gone[dataset.datasets[0].labels] = True
        if self.w_hold:
            self.teacher = Teacher(model, dataset)
        if not len(self.class_prototypes.rows):
            self.class_prototypes.make(
                model,
                dataset,
                self.prototype_passes,
                self.prototype_batch_size,
            )
        missing = self.class_prototypes.missing(dataset)
        if missing:
            print_log(
                f'no prototype for {", ".join(missing)}: there was no image '
                'of them in step 1; L_prototype leaves them out',
                'current',
                logging.WARNING,
            )

    def carried_state(self):
        return {**self.class_prototypes.state(), 'gone': self.gone}

    def load_carried_state(self, state):
        self.load_given_state(state)
        if 'gone' not in state:
            raise ValueError("has no 'gone', which says what is forgotten")
        self.gone = state['gone'].bool()

    def load_given_state(self, state):
        self.class_prototypes.load(
            {name: value for name, value in state.items() if name != 'gone'}
        )
        # What another run has forgotten stays in this one.
        self.gone = torch.zeros(len(self.class_prototypes.rows)).bool()

    def losses(self, forget, retain):
        terms = bounded_forgetting(forget, self.forgetting_loss, self.beta)
        distance, any_row = self.class_prototypes.divergence(
            forget, self.prototype_loss
        )
        # As with CE_f, the bound is for the joint batch.
        distance = mean_over_processes({'d': distance})['d']
        push = distance
        if any_row:
            push = bounded_forgetting_loss(distance, self.bound_pro)
        yield {
            **terms,
            'loss_prototype_forget': self.w_f * push,
            'distance_forget': distance.detach(),
            **self.deny(forget),
        }
        # The loss first: its pass is the one that trains.
        loss_retain = retain.loss
        distance, _ = self.class_prototypes.divergence(
            retain, self.prototype_loss
        )
        yield {
            'loss_retain': loss_retain,
            'loss_prototype_retain': self.w_r * distance,
            'distance_retain': distance.detach(),
            **self.hold(retain),
        }
        yield self.structure()

    def deny(self, forget):
        """The term of what was forgotten before, where there is any."""
        if self.teacher is None:
            return {}
        old = self.gone & self.teacher.is_kept
        if not old.any():
            return {}
        return {'loss_old_forget': self.w_hold * forget.presence_of(None, old)}

    def hold(self, retain):
        """The term of the teacher, if there is one."""
        if self.teacher is None:
            return {}
        outputs = self.teacher.outputs(retain)
        held = retain.distance_to(outputs, self.teacher.is_kept)
        return {'loss_hold_retain': self.w_hold * held}
