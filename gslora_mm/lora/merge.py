"""Folding an adapter into a stock state dict, without a model."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor

from .linear import merge_weight
from .state import refuse


def merge_adapter(
    state_dict: Mapping[str, Tensor],
    adapter: Mapping[str, Tensor],
    alpha: float,
) -> OrderedDict[str, Tensor]:
    """Fold an adapter into a stock state dict.

    Args:
        state_dict: Stock state dict, left as it is.
        adapter: As :func:`adapter_state_dict` gives it.
        alpha: Scale of the updates; their ranks show in the shapes.

    Returns:
        OrderedDict[str, Tensor]: A new state dict, equal bit for bit to
        :func:`merged_state_dict` of the adapted model.

    Raises:
        ConfigError: If the adapter does not fit the state dict.
    """
    merged = OrderedDict(state_dict)
    if hasattr(state_dict, '_metadata'):  # versions of the modules
        merged._metadata = state_dict._metadata
    problems = []
    for prefix in dict.fromkeys(key.rpartition('lora_')[0] for key in adapter):
        lora_A = adapter.get(f'{prefix}lora_A')
        lora_B = adapter.get(f'{prefix}lora_B')
        weight = state_dict.get(f'{prefix}weight')
        if lora_A is None or lora_B is None:
            problems.append(f'{prefix}lora_A and lora_B are no pair')
        elif weight is None:
            problems.append(f'{prefix}weight is missing in the checkpoint')
        elif (
            lora_B.shape[:1] + lora_A.shape[1:] != weight.shape
            or lora_B.shape[1:] != lora_A.shape[:1]
        ):
            problems.append(
                f'{prefix}weight is {tuple(weight.shape)}, its matrices '
                f'{tuple(lora_B.shape)} and {tuple(lora_A.shape)}'
            )
        else:
            merged[f'{prefix}weight'] = merge_weight(
                weight, lora_A, lora_B, alpha / len(lora_A)
            )
    refuse('adapter', problems)
    return merged
