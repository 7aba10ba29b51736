"""The adapter: low-rank updates of linear layers, grouped by block.

A closed set of verbs on any ``nn.Module``: inject, disable, merge, unmerge,
save, load. It needs torch only; mmcv's, mmdet's and mmpretrain's modules are
recognised, not imported.
"""

from .files import adapter_settings, load_adapter, read_adapter, save_adapter
from .find import TransformerBlock, transformer_blocks
from .functional import merge_weight
from .groups import group_norms, lora_groups
from .inject import (
    count_parameters,
    disable_lora,
    inject_lora,
    lora_layers,
    lora_parameters,
    scaled_lora,
    stock_layers,
)
from .layer import LoRALinear, LoRAProjection
from .merge import (
    adapter_state_dict,
    merge_adapter,
    merge_lora,
    merged_state_dict,
    split_adapter,
    unmerge_lora,
)
