"""LoRA in an ordinary run, without any forgetting."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel, PretrainedInit, initialize
from torch import Tensor, nn

from gslora_mm.lora import (
    adapter_settings,
    count_parameters,
    inject_lora,
    lora_groups,
    lora_layers,
    merged_state_dict,
    stock_layers,
)
from gslora_mm.lora.find import is_inside
from gslora_mm.registry import MODELS, check_arguments
from gslora_mm.utils import ConfigError, config_path, unknown_name, usable
from .stock import (
    build_stock_model,
    complete_stock_config,
    load_stock_checkpoint,
)
from .stock_keys import (
    ADAPTER_INFO,
    accept_stock_keys,
    frozen_norms,
    record_adapter,
)


@MODELS.register_module()
class AdaptedModel(BaseModel):
    """A stock model of mmdet or mmpretrain with an adapter.

    In a config that inherits one of theirs::

        model = dict(
            _delete_=True,
            type='gslora_mm.AdaptedModel',
            model=_base_.model,
            adapter=dict(rank=8))

    Training, evaluation and prediction are those of the stock model, which
    is ``self.model``. All its parameters but the adapter's are frozen. Stock
    checkpoints load (``load_from``, ``init_cfg``, ``checkpoint``), and
    :meth:`stock_state_dict` is one.

    Args:
        model (dict): Config of the stock model.
        adapter (dict, optional): Arguments of
            :func:`~gslora_mm.lora.inject_lora` and ``group_by`` of
            :func:`~gslora_mm.lora.lora_groups`. ``None`` trains the whole
            model. Defaults to None.
        checkpoint (str, optional): Stock checkpoint to start from, loaded
            strictly. Defaults to None, which keeps the random weights
            until ``init_weights`` or a checkpoint replaces them.
        allow_pickle (bool): Whether a checkpoint that holds pickled code
            may be loaded. Defaults to False.
        data_preprocessor (dict, optional): For models whose config keeps it
            outside ``model``, as in mmpretrain. Defaults to None.
        loss_structure (dict, optional): Config of a loss on the groups of
            the adapter, such as ``gslora_mm.GroupSparsityLoss``, that is
            added to the stock model's. Defaults to None.
        also_train (Sequence[str]): Modules of the stock model that are
            trained beside the adapter, by name; a head for other classes
            than the checkpoint's, for one. Defaults to ().
        **not_expected: Nothing; what a config without ``_delete_=True``
            leaves here is refused.

    Attributes:
        model (nn.Module): The stock model, adapted.
        stock_config (dict): What another model like ``model`` can be built
            from.
        groups (dict[str, list[nn.Parameter]]): Groups of the adapter by
            name; {} without one.
        group_by (str): What makes a group.

    Raises:
        ConfigError: If an argument is invalid, the stock model has no layer
            to adapt or an adapter already, or the checkpoint does not fit.
    """

    #: The config entry that holds the arguments, for errors about them.
    config_entry = 'model'

    def __init__(
        self,
        model: dict,
        adapter: dict | None = None,
        checkpoint: str | None = None,
        allow_pickle: bool = False,
        data_preprocessor: dict | None = None,
        loss_structure: dict | None = None,
        also_train: Sequence[str] = (),
        **not_expected: object,
    ) -> None:
        if not_expected:
            raise ConfigError(
                self.config_entry,
                valid=f'{type(self).__name__} knows no {list(not_expected)}. '
                'If these are entries of the stock model, that come from the '
                '_base_ config, write model = dict(_delete_=True, ...)',
            )
        # The stock model owns the data preprocessor; BaseModel would make a
        # default one that nothing needs.
        super().__init__(data_preprocessor=nn.Identity())
        self.stock_config = complete_stock_config(model, data_preprocessor)
        self.model = build_stock_model(self.stock_config)
        self.data_preprocessor = self.model.data_preprocessor
        self.groups: dict[str, list[nn.Parameter]] = {}
        self.group_by = 'block'
        self.loss_structure = None
        self.has_checkpoint = checkpoint is not None
        with config_path(self.config_entry):
            self.check_stock_model()
        if checkpoint is not None:
            load_stock_checkpoint(self.model, checkpoint, allow_pickle)
        with config_path(self.config_entry):
            if adapter is not None:
                self._inject(adapter)
            self._thaw(also_train)
            if loss_structure is not None:
                self._build_loss_structure(loss_structure)
        accept_stock_keys(self)
        self.register_state_dict_post_hook(record_adapter)

    def check_stock_model(self) -> None:
        """Raise a ConfigError if the stock model is of the wrong kind."""
        if lora_layers(self.model):
            raise ConfigError(
                'model.type',
                self.stock_config.get('type'),
                'is adapted already; valid is a stock model',
            )

    def _inject(self, adapter: dict) -> None:
        if not isinstance(adapter, dict):
            raise ConfigError(
                'adapter', adapter, 'must be a dict, such as dict(rank=8)'
            )
        adapter = dict(adapter)
        self.group_by = adapter.pop('group_by', 'block')
        check_arguments(partial(inject_lora, self.model), adapter, 'adapter')
        inject_lora(self.model, **adapter)
        self.groups = lora_groups(self.model, self.group_by)

    def _thaw(self, names: Sequence[str]) -> None:
        """Train what the stock model would train of some modules, too."""
        names = (names,) if isinstance(names, str) else tuple(names)
        known = dict(self.model.named_modules())
        for name in names:
            if name not in known:
                raise unknown_name('also_train', name, filter(None, known))
        if self.groups:
            # get_parameter() fails on the weight of a LoRAProjection, which
            # is a property.
            parameters = dict(self.model.named_parameters())
            for name in self.model.lora_injection['frozen']:
                if is_inside(name, names):
                    parameters[name].requires_grad_(True)

    def _build_loss_structure(self, loss: dict) -> None:
        if not self.groups:
            raise ConfigError(
                'loss_structure',
                loss,
                'is a loss on the groups of an adapter; set adapter, too',
            )
        with config_path('loss_structure'), usable(''):
            self.loss_structure = MODELS.build(loss)

    def init_weights(self) -> None:
        """Initialise the stock model as ever, and say what is trained.

        Neither A and B nor what a checkpoint gave is touched.
        """
        if not self.has_checkpoint:
            with stock_layers(self.model):
                self.model.init_weights()
                # mmdet's DETRs go over what ``init_cfg`` has just loaded.
                found = getattr(self.model, 'init_cfg', None) or []
                found = [found] if isinstance(found, dict) else found
                pretrained = [
                    cfg
                    for cfg in found
                    if cfg['type'] in ('Pretrained', PretrainedInit)
                ]
                initialize(self.model, pretrained)
        trained, total = count_parameters(self.model)
        MMLogger.get_current_instance().info(
            f'adapter: {len(self.groups)} groups; {trained:,} of {total:,} '
            f'parameters are trained ({trained / total:.2%})'
        )
        if self.groups:
            MessageHub.get_current_instance().update_info(
                ADAPTER_INFO, adapter_settings(self.model)
            )

    def train(self, mode: bool = True) -> 'AdaptedModel':
        """Switch to training mode, but no norms that are not trained.

        In training mode they would move their running statistics, that is,
        change a part of the model that nobody asked to change.
        """
        super().train(mode)
        if mode and self.groups:
            for norm in frozen_norms(self.model).values():
                norm.eval()
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
        """The stock model's own losses, and that on the adapter's groups."""
        losses = self.model(inputs, data_samples, mode='loss')
        if self.loss_structure is not None:
            losses['loss_structure'] = self.loss_structure(self.groups)
        return losses

    def stock_state_dict(self) -> 'OrderedDict[str, Tensor]':
        """State dict of the stock model, with the adapter folded in."""
        return merged_state_dict(self.model)
