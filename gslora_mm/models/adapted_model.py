"""LoRA in an ordinary run."""

import copy
from functools import partial

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gslora_mm.lora import inject_lora, lora_groups
from gslora_mm.registry import MODELS, check_arguments
from .stock import build_stock_model, load_stock_checkpoint


@MODELS.register_module()
class AdaptedModel(BaseModel):
    """A stock model with an adapter.

    Args:
        model (dict): Config of the stock model of mmdet or mmpretrain.
        adapter (dict, optional): Arguments of
            :func:`~gslora_mm.lora.inject_lora` and ``group_by`` of
            :func:`~gslora_mm.lora.lora_groups`. ``None`` trains the whole
            model. Defaults to None.
        checkpoint (str, optional): Stock checkpoint to start from, loaded
            strictly. Defaults to None, which keeps the random weights.
        allow_pickle (bool): Whether a checkpoint that holds pickled code
            may be loaded. Defaults to False.
        data_preprocessor (dict, optional): For models whose config keeps it
            outside ``model``, as in mmpretrain. Defaults to None.

    Attributes:
        model (nn.Module): The stock model, adapted.
        stock_config (dict): What another model like ``model`` can be built
            from.
        groups (dict[str, list[nn.Parameter]]): Groups of the adapter by
            name; {} without one.
        group_by (str): What makes a group.
    """

    def __init__(
        self,
        model: dict,
        adapter: dict | None = None,
        checkpoint: str | None = None,
        allow_pickle: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        # The stock model owns the data preprocessor; BaseModel would make a
        # default one that nothing needs.
        super().__init__(data_preprocessor=nn.Identity())
        self.stock_config = copy.deepcopy(model)
        if data_preprocessor is not None:
            self.stock_config.setdefault(
                'data_preprocessor', data_preprocessor
            )
        self.model = build_stock_model(self.stock_config)
        self.data_preprocessor = self.model.data_preprocessor
        self.check_stock_model()
        if checkpoint is not None:
            load_stock_checkpoint(self.model, checkpoint, allow_pickle)
        self.groups: dict[str, list[nn.Parameter]] = {}
        self.group_by = 'block'
        if adapter is not None:
            adapter = dict(adapter)
            self.group_by = adapter.pop('group_by', 'block')
            check_arguments(
                partial(inject_lora, self.model), adapter, 'adapter'
            )
            inject_lora(self.model, **adapter)
            self.groups = lora_groups(self.model, self.group_by)

    def check_stock_model(self) -> None:
        """Raise a ConfigError if the stock model is of the wrong kind."""

    def init_weights(self) -> None:
        """Keep the weights: they came from the checkpoint."""

    def train(self, mode: bool = True) -> 'AdaptedModel':
        """Switch to training mode, but no norms beside an adapter.

        In training mode they would move their running statistics, that is,
        change a part of the model that nobody asked to change.
        """
        super().train(mode)
        if mode and self.groups:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: list | None = None,
        mode: str = 'tensor',
    ):
        """As :meth:`mmengine.model.BaseModel.forward`."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.model(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """The stock model's own loss."""
        return self.model(inputs, data_samples, mode='loss')


def is_frozen(modules: list[torch.nn.Module]) -> bool:
    """Whether no parameter of some modules is trained."""
    return not any(
        parameter.requires_grad
        for module in modules
        for parameter in module.parameters()
    )
