"""Checkpoints of other code bases, as mmdet and mmpretrain name them.

Only tensors are renamed, reshaped, scaled and selected; no model is built.
"""

from collections.abc import Mapping

from torch import Tensor

from gslora_mm.utils import ConfigError
from .classifiers import (
    FACE_TRANSFORMER,
    HF_VIT,
    TIMM_VIT,
    TORCHVISION_VIT,
)
from .detectors import (
    DEFORMABLE_DETR,
    DETR,
    DINO,
    HF_DEFORMABLE_DETR,
    HF_DETR,
    MMDET2_DEFORMABLE_DETR,
    MMDET2_DETR,
    MMDET3_DINO,
    POSITIONS,
)
from .source import Source, unwrapped

#: What tools/model_tools/convert_checkpoint.py can read, by name.
SOURCES: dict[str, Source] = {
    'deformable_detr': DEFORMABLE_DETR,
    'detr': DETR,
    'dino': DINO,
    'face_transformer': FACE_TRANSFORMER,
    'hf_deformable_detr': HF_DEFORMABLE_DETR,
    'hf_detr': HF_DETR,
    'hf_vit': HF_VIT,
    'mmdet2_deformable_detr': MMDET2_DEFORMABLE_DETR,
    'mmdet2_detr': MMDET2_DETR,
    'mmdet3_dino': MMDET3_DINO,
    'timm_vit': TIMM_VIT,
    'torchvision_vit': TORCHVISION_VIT,
}


def recognise(state_dict: Mapping[str, Tensor]) -> str | None:
    """Tell by its keys where a state dict comes from.

    Args:
        state_dict (Mapping[str, Tensor]): The weights.

    Returns:
        str, optional: The name of the source most of whose rules find
        something, if it knows most of the keys; None if there is none.
    """
    keys = unwrapped(state_dict)

    def misfit(name: str) -> float:
        _, unknown, missing = SOURCES[name].rename(keys)
        known = 1 - len(unknown) / max(len(keys), 1)
        return len(missing) / len(SOURCES[name].rules) - known

    best = min(SOURCES, key=misfit)
    return best if misfit(best) < -0.5 else None


def foreign_to(
    state_dict: Mapping[str, Tensor], model: Mapping[str, Tensor]
) -> str | None:
    """Tell what a state dict is that does not fit a model for its names.

    Args:
        state_dict (Mapping[str, Tensor]): The weights.
        model (Mapping[str, Tensor]): The state dict of the model.

    Returns:
        str, optional: The name of a source; None if there is none, or names
        are not what keeps it from fitting.
    """
    shapes = {
        keys[POSITIONS].shape
        for keys in (state_dict, model)
        if POSITIONS in keys
    }
    if len(shapes) == 2:
        return recognise(state_dict)
    if model.keys() <= state_dict.keys():
        return None
    name = recognise(state_dict)
    return None if name == 'mmdet3_dino' else name


def words_for_config(source: Source, state_dict: Mapping[str, Tensor]) -> str:
    """Say what the config of a converted checkpoint has to have.

    Args:
        source (Source): Where it comes from.
        state_dict (Mapping[str, Tensor]): What its conversion gave.

    Returns:
        str: Lines.
    """
    needs = source.needs(dict(state_dict)).items()
    lines = [f'  {entry} = {value!r}' for entry, value in needs]
    return '\n'.join(
        ['The config needs:', *lines, *(f'  {line}' for line in source.advice)]
    )
