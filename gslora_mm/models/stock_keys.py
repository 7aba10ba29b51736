"""Stock checkpoints for a model that holds the stock model as ``model``.

Whatever loads a state dict, MMEngine's Runner included, goes through the
hooks of a module. Here they give the keys of a stock checkpoint the prefix
that they have inside, and do not miss the adapter.
"""

import re
from typing import Any

from torch import Tensor, nn

from gslora_mm.lora.layer import MATRICES
from gslora_mm.lora.merge import raise_problems
from gslora_mm.utils import ConfigError

CHILD = 'model.'
_SIZE_MISMATCH = re.compile(r'size mismatch for (\S+):')


def accept_stock_keys(model: nn.Module) -> None:
    """Let a model load stock checkpoints, beside its own.

    A stock checkpoint has to give all frozen weights, which would stay
    random otherwise; what is trained may be missing or of another shape, as
    the loader sees fit. A checkpoint of the model's own has to have the same
    adapter.

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
    model.stock_load = None
    if own.keys() & state.keys():
        _check_adapter(own, state)
        return
    renamed = {key: f'{prefix}{CHILD}{key[len(prefix) :]}' for key in state}
    if not own.keys() & renamed.values():
        raise ConfigError(
            'the checkpoint fits neither the adapted model nor its stock '
            f'model: {len(state)} keys, first {list(state)[:3]}; valid are '
            f'keys such as {next(iter(own)).removeprefix(prefix + CHILD)!r}'
        )
    for key, new in renamed.items():
        state[new] = state.pop(key)
    versions = getattr(state, '_metadata', None)
    for name, version in list((versions or {}).items()):
        versions[f'{CHILD}{name}'.rstrip('.')] = version
    # For the hook after loading: errors are collected in the same list.
    model.stock_load = (prefix, errors)


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


def _check_frozen(model: nn.Module, keys: Any) -> None:
    """After loading: the adapter may be missing, frozen weights may not."""
    if model.stock_load is None:
        return
    prefix, errors = model.stock_load
    model.stock_load = None
    keys.missing_keys[:] = [
        key for key in keys.missing_keys if not key.endswith(MATRICES)
    ]
    misfits = {*keys.missing_keys, *_SIZE_MISMATCH.findall('\n'.join(errors))}
    left_out = [
        name.removeprefix(CHILD)
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and f'{prefix}{name}' in misfits
    ]
    if left_out:
        raise ConfigError(
            f'the stock checkpoint does not have {len(left_out)} of the '
            f'frozen weights, or in another shape, first {left_out[:3]}: '
            'they would stay random. Name the modules that are new in '
            'model.also_train'
        )
