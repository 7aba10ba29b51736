from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gslora_mm.datasets.forget_retain import seeded
from gslora_mm.models import load_stock_checkpoint
from gslora_mm.registry import METHODS, MODELS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.quiet import no_info
from .arguments import check_seeds
from .base import BaseMethod

if TYPE_CHECKING:
    from gslora_mm.training import ForgettingModel
    from gslora_mm.tasks import HalfBatch


@METHODS.register_module()
class Retrain(BaseMethod):
    r"""Retraining from scratch without the forgotten classes.

    .. math:: L = L_{retain}

    from the initial weights: what forgetting is measured against, because
    such a model never saw the classes (Bourtoule et al., "Machine
    Unlearning", S&P 2021, https://arxiv.org/abs/1912.03817). The images are
    the retain replay images of the step; ``forgetting.retain_share = 1.0``
    makes them all of the data.

    Every step starts from the same weights, whatever the step's checkpoint
    holds, statistics of batch normalisations included. They are those that
    the stock config asks for: random, or in part pre-trained - the backbone
    of most detectors - where an ``init_cfg`` says so.

    Args:
        seed (int): Of the initial weights. Defaults to 0.
        initial (str, optional): Stock checkpoint with the initial weights,
            path or url. Defaults to None, which draws them.
        allow_pickle (bool): Whether that file may hold pickled code.
            Defaults to False.
    """

    name = 'retrain'
    needs = ('retain',)

    def __init__(
        self,
        seed: int = 0,
        initial: str | None = None,
        allow_pickle: bool = False,
    ) -> None:
        super().__init__()
        check_seeds(seed=seed)
        if initial is not None and not isinstance(initial, str):
            raise ConfigError(
                f'method.initial = {initial!r}: must be the path of a stock '
                'checkpoint, or None'
            )
        self.seed = seed
        self.initial = initial
        self.allow_pickle = allow_pickle

    def setup(self, model: ForgettingModel) -> None:
        if model.groups:
            raise ConfigError(
                'adapter must be None for Retrain: all weights are drawn '
                'anew, there are none to be adapted'
            )
        fresh = initial_model(model.stock_config, self.seed)
        if self.initial is not None:
            load_stock_checkpoint(
                fresh, self.initial, self.allow_pickle, 'method.initial'
            )
        model.model.load_state_dict(fresh.state_dict())

    def losses(
        self, forget: HalfBatch, retain: HalfBatch
    ) -> Iterator[dict[str, Tensor]]:
        yield {'loss_retain': retain.loss}


def initial_model(config: dict, seed: int) -> nn.Module:
    """Build a model and draw its weights.

    Args:
        config (dict): Of a stock model.
        seed (int): What the weights follow from; no generator is moved.

    Returns:
        nn.Module: On the CPU.
    """
    with seeded(seed), no_info():
        # mmdet's detectors write into the config that they are built from.
        model = MODELS.build(copy.deepcopy(config))
        model.init_weights()
    return model
