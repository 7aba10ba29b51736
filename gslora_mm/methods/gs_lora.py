from gslora_mm.registry import METHODS
from .group_sparse import GroupSparse
from .ingredients.bounded import bounded_forgetting
from .ingredients.losses import LossConfig, build_loss
from .ingredients.wrong_class import loss_of_wrong_class
from .settings import NonNegative, PerStep, Positive

#: Where BND is found and not given: how often the loss of a class that is not
#: there. On digits, faces and digit scenes that is 16, 28 and 4; a search had
#: found 10, 25 and 4.
WRONG_TIMES = 2.0


@METHODS.register_module()
class GSLoRA(GroupSparse):
    r"""Group-sparse LoRA.

    "Continual Forgetting for Pre-trained Vision Models", CVPR 2024,
    https://arxiv.org/abs/2403.11530.

    .. math::
        L = L_{retain} + \beta\, L_{forget} + \alpha_s\, L_{structure}

        L_{forget} = \mathrm{ReLU}(BND - CE_f) + L_{rest,f}

    :math:`CE_f` is the classification loss of the forget batch, which is
    pushed up to the bound BND. :math:`L_{rest,f}` are its other losses - in
    detection those of the boxes -, which keep their sign; a classifier has
    none. :math:`L_{structure}` is that of :class:`GroupSparse`.

    Args:
        alpha_s, warmup_iters, warmup_epochs, sparsity, loss_structure: As in
            :class:`GroupSparse`.
        beta: Weight of the forgetting loss (COCO, step 1).
        bound: BND, the classification loss at which a class counts as
            forgotten (COCO).
        loss_forget: Type or config of the module that gives
            :math:`\mathrm{ReLU}(BND - CE_f)` for :math:`CE_f`.
    """

    name = 'gs_lora'
    forget_weight = 'beta'
    beta: PerStep[NonNegative] = 0.15
    bound: PerStep[Positive] = 15.0
    loss_forget: LossConfig = 'gslora_mm.BoundedForgettingLoss'

    def __post_init__(self):
        super().__post_init__()
        self.take_settings({'bound': self.bound})

    def setup(self, model):
        self.require_adapter(model)
        super().setup(model)

    def find_settings(self, model, dataset):
        wrong = loss_of_wrong_class(model, dataset)
        return {'bound': WRONG_TIMES * wrong}

    def take_settings(self, settings):
        super().take_settings(settings)
        if 'bound' in settings:
            self.forgetting_loss = build_loss(
                'method.loss_forget', self.loss_forget, bound=self.bound
            )

    def losses(self, forget, retain):
        yield bounded_forgetting(forget, self.forgetting_loss, self.beta)
        yield {'loss_retain': retain.loss}
        yield self.structure()
