"""Stock checkpoints for a model that holds the stock model as ``model``.

Whatever loads a state dict, MMEngine's Runner included, goes through the
hooks of a module. Here they give the keys of a stock checkpoint the prefix
that they have inside, do not miss the adapter, and see to it that what is
loaded fits the adapter and leaves no frozen weight random.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.logging import MessageHub
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gslora_mm.lora import adapter_settings, lora_layers
from gslora_mm.lora.layer import MATRICES
from gslora_mm.lora.merge import raise_problems
from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import STOCK_PREFIX, find_size_mismatches

#: Settings of the adapter, kept in the message hub and so in checkpoints.
ADAPTER_INFO = 'adapter'


def accept_stock_keys(model: nn.Module) -> None:
    """Let a model load stock checkpoints, beside its own.

    Either has to give all frozen weights and the statistics of all frozen
    norms, which would stay random otherwise; what is trained may be missing
    or of another shape, as the loader sees fit. A checkpoint of the model's
    own has to have the same adapter, and the same alpha if it says which.

    Args:
        model (nn.Module): With the stock model as its attribute ``model``.

    Raises:
        ConfigError: When a checkpoint is loaded that does not fit so.
    """
    model.register_load_state_dict_pre_hook(_add_prefix)
    model.register_load_state_dict_post_hook(_check_frozen)


def _add_prefix(
    model: nn.Module,
    state: dict[str, Tensor],
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Before loading: turn keys of the stock model into keys of ours."""
    own = {f'{prefix}{key}': v for key, v in model.state_dict().items()}
    # For the hook after loading: errors are collected in the same list.
    is_stock = not own.keys() & state.keys()
    model.current_load = (prefix, errors, is_stock)
    if not is_stock:
        _check_adapter(own, state)
        _check_alpha(model, local_metadata)
        return
    renamed = {
        key: f'{prefix}{STOCK_PREFIX}{key[len(prefix) :]}' for key in state
    }
    if not own.keys() & renamed.values():
        example = next(iter(own)).removeprefix(prefix + STOCK_PREFIX)
        raise ConfigError(
            'the checkpoint fits neither the adapted model nor its stock '
            f'model: {len(state)} keys, first {list(state)[:3]}; valid are '
            f'keys such as {example!r}'
        )
    for key, new in renamed.items():
        state[new] = state.pop(key)
    versions = getattr(state, '_metadata', None)
    for name, version in list((versions or {}).items()):
        versions[f'{STOCK_PREFIX}{name}'.rstrip('.')] = version


def _check_adapter(own: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    ours, theirs = (
        {k: v.shape for k, v in found.items() if k.endswith(MATRICES)}
        for found in (own, state)
    )
    if theirs and ours != theirs:
        raise_problems(
            'the adapter of the checkpoint',
            [
                f'{key} is {tuple(theirs.get(key, ()))} in the checkpoint, '
                f'{tuple(ours.get(key, ()))} in the model'
                for key in sorted(ours.keys() | theirs.keys())
                if ours.get(key) != theirs.get(key)
            ],
        )


def _check_alpha(model: nn.Module, metadata: dict[str, Any]) -> None:
    """Refuse matrices that were trained with another scale."""
    recorded = metadata.get(ADAPTER_INFO)
    alphas = {layer.alpha for layer in lora_layers(model.model).values()}
    if recorded and alphas and alphas != {recorded['alpha']}:
        raise ConfigError(
            'the adapter of the checkpoint does not fit: alpha is '
            f'{sorted(alphas)} in the model, {recorded["alpha"]} in the '
            'checkpoint'
        )


def record_adapter(
    model: nn.Module,
    state: dict[str, Tensor],
    prefix: str,
    local_metadata: dict[str, Any],
) -> None:
    """When a state dict is made: put the settings of the adapter beside it.

    They go to the metadata of the state dict, which keep the versions of
    modules, too. Those in the message hub are renewed if there are any: a
    resumed run finds there what the checkpoint said, not what it trains
    with.

    Args:
        model (nn.Module): With the stock model as its attribute ``model``.
        state (dict[str, Tensor]): The state dict.
        prefix (str): What comes before the model's keys in it.
        local_metadata (dict[str, Any]): The model's entry in the metadata.
    """
    if not lora_layers(model.model):
        return
    settings = adapter_settings(model.model)
    local_metadata[ADAPTER_INFO] = settings
    hub = MessageHub.get_current_instance()
    if ADAPTER_INFO in hub.runtime_info:
        hub.update_info(ADAPTER_INFO, settings)


def _check_frozen(model: nn.Module, keys: Any) -> None:
    """After loading: the adapter may be missing, frozen weights may not."""
    prefix, errors, is_stock = model.current_load
    del model.current_load
    if is_stock:
        keys.missing_keys[:] = [
            key for key in keys.missing_keys if not key.endswith(MATRICES)
        ]
    mismatches = find_size_mismatches('\n'.join(errors))
    misfits = {*keys.missing_keys, *(name for name, *_ in mismatches)}
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    frozen += [
        f'{name}.{statistic}'
        for name, norm in frozen_norms(model).items()
        for statistic in ('running_mean', 'running_var')
    ]
    left_out = [
        name.removeprefix(STOCK_PREFIX)
        for name in frozen
        if f'{prefix}{name}' in misfits
    ]
    if left_out:
        kind = 'stock checkpoint' if is_stock else 'checkpoint'
        raise ConfigError(
            f'the {kind} does not have {len(left_out)} of the '
            f'frozen weights, or in another shape, first {left_out[:3]}: '
            'they would stay random. Name the modules that are new in '
            'model.also_train'
        )


def is_frozen(modules: Sequence[nn.Module]) -> bool:
    """Whether no parameter of some modules is trained."""
    return not any(
        parameter.requires_grad
        for module in modules
        for parameter in module.parameters()
    )


def frozen_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Norms with running statistics that are not trained, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and is_frozen([module])
    }
