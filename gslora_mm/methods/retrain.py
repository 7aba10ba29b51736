from typing import Annotated

from torch import nn

from gslora_mm.datasets.forget_retain import seeded
from gslora_mm.models import build_stock_model, load_stock_checkpoint
from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from gslora_mm.utils.quiet import no_info
from .base import BaseMethod
from .settings import Seed, path

Checkpoint = Annotated[
    str | None, path('must be the path of a stock checkpoint, or None')
]


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
        seed: Of the initial weights.
        initial: Stock checkpoint with the initial weights, path or url;
            None draws them.
        allow_pickle: Whether that file may hold pickled code.
    """

    name = 'retrain'
    needs = ('retain',)
    seed: Seed = 0
    initial: Checkpoint = None
    allow_pickle: bool = False

    def setup(self, model):
        if model.groups:
            raise ConfigError(
                'adapter',
                valid='must be None for Retrain: all weights are drawn anew, '
                'there are none to be adapted',
            )
        fresh = initial_model(model.stock_config, self.seed)
        if self.initial is not None:
            load_stock_checkpoint(
                fresh, self.initial, self.allow_pickle, 'method.initial'
            )
        model.model.load_state_dict(fresh.state_dict())

    def losses(self, forget, retain):
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
        model = build_stock_model(config)
        model.init_weights()
    return model
