from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log
from torch import Tensor

from gslora_mm.models.losses import bounded_forgetting_loss, prototype_loss
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.distributed import mean_over_processes
from .arguments import check_bounds, check_counts, check_weights
from .gs_lora import GSLoRA
from gslora_mm.methods.ingredients.prototypes import class_means

if TYPE_CHECKING:
    from gslora_mm.datasets import ForgetRetainDataset
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch

SOURCES = ('features', 'class_layer')


@METHODS.register_module()
class GSLoRAPP(GSLoRA):
    r"""GS-LoRA++: group-sparse LoRA, guided by prototypes.

    "Practical Continual Forgetting for Pre-trained Vision Models", T-PAMI,
    https://arxiv.org/abs/2501.09705.

    .. math::
        L = L_{retain} + \beta\, L_{forget} + \alpha_s\, L_{structure}
        + L_{prototype}

        L_{prototype} = w_f\, \mathrm{ReLU}(BND_{pro} - KL_f) + w_r\, KL_r,
        \quad KL = \mathrm{mean}_i\, \mathrm{KL}(\mathrm{softmax}(p_{y_i})
        \,\Vert\, \mathrm{softmax}(f_i))

    Features :math:`f_i`, the embeddings before the last class layer, are
    pushed away from the prototype :math:`p_{y_i}` of their class in the
    forget half, up to a bound, and pulled to it in the retain half. Both are
    taken as they are, not normalised. The other terms are those of
    :class:`GSLoRA`.

    Prototypes come from the model *as it was before any forgetting* and
    serve all steps: they are made in the first one, without the adapter, and
    carried on by file. They are either the mean feature of each class over
    the replay images, or the rows of the last class layer. A class without
    replay images in the first step has no mean; its features are left out
    of the term, and nothing else.

    The average of the adapter's weights that the papers' scripts use is
    :class:`~gslora_mm.training.AdapterEMAHook`.

    Args:
        beta (float): As in :class:`GSLoRA`. Defaults to 0.15.
        bound (float): As in :class:`GSLoRA`. Defaults to 15.0.
        alpha_s (float): As in :class:`GSLoRA`. Defaults to 3e-4.
        warmup_iters (int): As in :class:`GSLoRA`. Defaults to 0.
        warmup_epochs (int): As in :class:`GSLoRA`. Defaults to 0.
        sparsity (str): As in :class:`GSLoRA`. Defaults to
            ``'subgradient'``.
        w_f (float): Weight of the push; a list in a config has one value a
            step. Defaults to 0.005 (COCO).
        w_r (float): Weight of the pull; a list in a config has one value a
            step. The published scripts leave it at 0. Defaults to 0.005.
        bound_pro (float): BND_pro, the divergence at which a feature counts
            as pushed away; a list in a config has one value a step.
            Defaults to 18.0.
        prototypes (str, optional): File with prototypes to use, the
            ``method.safetensors`` of another run with the same pre-trained
            checkpoint. Defaults to None, which makes them in step 1.
        prototype_source (str, optional): ``'features'`` or
            ``'class_layer'``. Defaults to None, which leaves it to the task:
            features for classifiers, the class layer for detectors.
        prototype_passes (int): Passes over the replay images, through the
            training pipeline with its augmentations. Defaults to 1.
        prototype_batch_size (int): Images of a batch in these passes.
            Defaults to 16.
    """

    name = 'gs_lora_pp'
    per_step = (*GSLoRA.per_step, 'w_f', 'w_r', 'bound_pro')
    state_argument = 'prototypes'

    def __init__(
        self,
        beta: float = 0.15,
        bound: float = 15.0,
        alpha_s: float = 3e-4,
        warmup_iters: int = 0,
        warmup_epochs: int = 0,
        sparsity: str = 'subgradient',
        w_f: float = 0.005,
        w_r: float = 0.005,
        bound_pro: float = 18.0,
        prototypes: str | None = None,
        prototype_source: str | None = None,
        prototype_passes: int = 1,
        prototype_batch_size: int = 16,
    ) -> None:
        super().__init__(
            beta, bound, alpha_s, warmup_iters, warmup_epochs, sparsity
        )
        check_weights(w_f=w_f, w_r=w_r)
        check_bounds(bound_pro=bound_pro)
        if prototypes is not None and not isinstance(prototypes, str):
            raise ConfigError(
                f'method.prototypes = {prototypes!r}: must be the path of a '
                "file such as 'work_dirs/run/step_01/method.safetensors', or "
                'None'
            )
        if prototype_source not in (None, *SOURCES):
            raise ConfigError(
                f'method.prototype_source = {prototype_source!r}: must be '
                f'one of {SOURCES}, or None'
            )
        check_counts(
            prototype_passes=prototype_passes,
            prototype_batch_size=prototype_batch_size,
        )
        self.w_f = w_f
        self.w_r = w_r
        self.bound_pro = bound_pro
        self.prototype_source = prototype_source
        self.prototype_passes = prototype_passes
        self.prototype_batch_size = prototype_batch_size
        # Not part of the state of a step: their own file is.
        self.register_buffer('prototypes', torch.zeros(0, 0), persistent=False)
        self.register_buffer(
            'has_prototype', torch.zeros(0, dtype=torch.bool), persistent=False
        )

    def setup(self, model: ForgettingModel) -> None:
        super().setup(model)
        if self.prototype_source is None:
            self.prototype_source = model.task.prototype_source
        if self.prototype_source == 'class_layer':
            # Not kept, but a head without such a layer is found out here,
            # before any training.
            model.task.class_weights(model.model)

    def prepare(
        self, model: ForgettingModel, dataset: ForgetRetainDataset
    ) -> None:
        if not len(self.prototypes):
            if self.prototype_source == 'class_layer':
                rows = model.task.class_weights(model.model).float()
                known = torch.ones(len(rows), dtype=torch.bool)
            else:
                rows, counts = class_means(
                    model,
                    dataset,
                    self.prototype_passes,
                    self.prototype_batch_size,
                )
                known = counts > 0
            self._keep(rows, known)
        self._warn_of_missing(dataset)

    def carried_state(self) -> dict[str, Tensor]:
        return {
            f'prototypes.{self.prototype_source}': self.prototypes,
            'has_prototype': self.has_prototype,
        }

    def load_carried_state(self, state: dict[str, Tensor]) -> None:
        expected = self.carried_state()
        if set(state) != set(expected):
            raise ValueError(
                f'holds {sorted(state)}, not {sorted(expected)}; '
                f'method.prototype_source is {self.prototype_source!r}'
            )
        rows, known = (state[key] for key in expected)
        if rows.dim() != 2 or known.shape != rows.shape[:1]:
            raise ValueError(
                f'holds prototypes of shape {tuple(rows.shape)} and '
                f'has_prototype of shape {tuple(known.shape)}, not (classes, '
                'C) and (classes, )'
            )
        if not rows.isfinite().all():
            raise ValueError('holds prototypes that are not finite')
        self._keep(rows, known)

    def _keep(self, rows: Tensor, known: Tensor) -> None:
        device = self.prototypes.device
        self.prototypes = rows.detach().to(device, torch.float32)
        self.has_prototype = known.to(device, torch.bool)

    def _warn_of_missing(self, dataset: ForgetRetainDataset) -> None:
        classes = list(dataset.metainfo['classes'])
        missing = [
            name
            for subset in dataset.datasets
            for name, images in subset.class_counts.items()
            if images and not self.has_prototype[classes.index(name)]
        ]
        if missing:
            print_log(
                f'no prototype for {", ".join(missing)}: there was no image '
                'of them in step 1; L_prototype leaves them out',
                'current',
                logging.WARNING,
            )

    def forget_part(self, forget: HalfBatch) -> dict[str, Tensor]:
        part = super().forget_part(forget)
        kl, any_row = self.divergence(forget)
        # As with CE_f, the bound is for the joint batch.
        kl = mean_over_processes({'kl': kl})['kl']
        push = bounded_forgetting_loss(kl, self.bound_pro) if any_row else kl
        part['loss_prototype_forget'] = self.w_f * push
        part['kl_forget'] = kl.detach()
        return part

    def retain_part(self, retain: HalfBatch) -> dict[str, Tensor]:
        part = super().retain_part(retain)
        kl, _ = self.divergence(retain)
        part['loss_prototype_retain'] = self.w_r * kl
        part['kl_retain'] = kl.detach()
        return part

    def divergence(self, half: HalfBatch) -> tuple[Tensor, bool]:
        """KL of a half's features from the prototypes of their classes.

        Args:
            half (HalfBatch): With N features of shape (N, C).

        Returns:
            tuple[Tensor, bool]: A scalar whose mean over the processes is
            that over all their features, whatever share of them this
            process has; and whether any process has one.
        """
        if not len(self.prototypes):
            raise RuntimeError('GSLoRAPP has no prototypes: prepare() first')
        known = self.has_prototype[half.labels]
        features, labels = half.features[known], half.labels[known]
        kl = prototype_loss(features.float(), labels, self.prototypes)
        rows = mean_over_processes({'rows': kl.new_tensor(float(len(labels)))})
        mean_rows = rows['rows'].item()
        if not mean_rows:
            return kl, False
        return kl * (len(labels) / mean_rows), True
