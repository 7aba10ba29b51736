"""The adapter: low-rank updates of linear layers, grouped by block.

A closed set of verbs on any ``nn.Module``: inject, disable, merge, unmerge,
save, load. It needs torch only; mmcv's, mmdet's and mmpretrain's modules are
recognised, not imported.
"""

from .blocks import TransformerBlock, transformer_blocks
from .groups import group_norms, lora_groups
from .inject import inject_lora, merge_lora, unmerge_lora
from .layers import (
    count_parameters,
    disable_lora,
    lora_layers,
    lora_parameters,
)
from .linear import LoRALinear
from .merge import merge_adapter
from .projection import LoRAProjection
from .state import (
    adapter_state_dict,
    load_adapter,
    merged_state_dict,
    read_adapter,
    save_adapter,
)

__all__ = [
    'LoRALinear',
    'LoRAProjection',
    'TransformerBlock',
    'adapter_state_dict',
    'count_parameters',
    'disable_lora',
    'group_norms',
    'inject_lora',
    'load_adapter',
    'lora_groups',
    'lora_layers',
    'lora_parameters',
    'merge_adapter',
    'merge_lora',
    'merged_state_dict',
    'read_adapter',
    'save_adapter',
    'transformer_blocks',
    'unmerge_lora',
]
