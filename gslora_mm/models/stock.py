"""Stock models of mmdet and mmpretrain: the only place to build and load."""

import copy
import shlex
from collections.abc import Mapping
from pathlib import PurePath

import torch

from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError, config_path
from gslora_mm.utils.checkpoint import (
    load_checkpoint,
    load_state_dict_strictly,
    state_dict_of,
)
from .converters import SOURCES, foreign_to, words_for_config
from .fast_operators import use_fast_operators

#: What mmdet's DDQ-DETR saves twice once it has trained: its decoder borrows
#: branches of its head, where they are loaded.
_TWICE = ('decoder.aux_reg_branches.',)


def build_stock_model(
    model: Mapping, data_preprocessor: Mapping | None = None
) -> torch.nn.Module:
    """Build a stock model from its config, which stays as it is.

    Args:
        model (Mapping): Config of the model.
        data_preprocessor (Mapping, optional): For models whose config keeps
            it outside ``model``, as in mmpretrain. Defaults to None.

    Returns:
        nn.Module: With the weights that its constructor gave it.
    """
    # mmdet's detectors write into the config that they are built from.
    built = MODELS.build(complete_stock_config(model, data_preprocessor))
    use_fast_operators()
    return built


def complete_stock_config(
    model: Mapping, data_preprocessor: Mapping | None = None
) -> Mapping:
    """Copy the config of a stock model, and put its data preprocessor in.

    Args:
        model (Mapping): Config of the model; one in it is kept.
        data_preprocessor (Mapping, optional): See :func:`build_stock_model`.

    Returns:
        Mapping: A copy, of the same class.
    """
    model = copy.deepcopy(model)
    if data_preprocessor is not None:
        model.setdefault('data_preprocessor', data_preprocessor)
    return model


def load_stock_checkpoint(
    model: torch.nn.Module,
    path: str,
    allow_pickle: bool = False,
    key: str = 'model.checkpoint',
) -> None:
    """Load a stock checkpoint of mmdet or mmpretrain strictly.

    Args:
        model (nn.Module): The stock model.
        path (str): Path or url.
        allow_pickle (bool): Whether pickled code may be executed.
            Defaults to False.
        key (str): Config key that errors name.

    Raises:
        ConfigError: If the file cannot be read, is one of another code base
            or does not fit the model.
    """
    checkpoint = load_checkpoint(path, allow_pickle=allow_pickle, key=key)
    state_dict = state_dict_of(checkpoint)
    if name := foreign_to(state_dict, model.state_dict()):
        raise _advice_to_convert(state_dict, name, path, key)
    load_state_dict_strictly(model, state_dict, key=key, ignore=_TWICE)


def _advice_to_convert(
    state_dict: Mapping[str, torch.Tensor], name: str, path: str, key: str
) -> ConfigError:
    """Make the error for a checkpoint that can be converted.

    Raises:
        ConfigError: In its place, if the checkpoint cannot be.
    """
    source = SOURCES[name]
    with config_path(context=f'{key} = {str(path)!r}'):
        converted = source.convert(state_dict)
    old = PurePath(path)
    new = f'{old.stem}_stock.pth'
    if '://' not in str(path):
        new = str(old.with_name(new))
    return ConfigError(
        key,
        str(path),
        f'is a checkpoint of {source.title}. Convert it:\n'
        '  python tools/model_tools/convert_checkpoint.py --from auto '
        f'{shlex.quote(str(path))} {shlex.quote(new)}\n'
        f'and name {new!r} instead. {words_for_config(source, converted)}',
    )
