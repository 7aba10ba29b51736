"""Registries of gslora_mm.

Those of MMEngine that are needed get a child each, so that a config of mmdet
or mmpretrain names this project's types as ``gslora_mm.Name`` without
``custom_imports``: MMEngine imports this module when it meets the scope, and
``locations`` says what to import when a type is first asked for. ``TASKS``,
``METHODS`` and ``PICTURES`` are this project's own and have no parent.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry, init_default_scope

from gslora_mm.utils import ConfigError, unknown_name

# So that a config elsewhere can say _base_ = 'gslora_mm::...'.
MODULE2PACKAGE.setdefault('gslora_mm', 'gslora_mm')


#: Library of configs that do not name one.
DEFAULT_SCOPE = 'mmdet'


def init_scope(cfg: Mapping) -> str:
    """Look types up in the library that a config is written for.

    Args:
        cfg (Mapping): A config, of a sequence, a step or a stock model;
            changed in place, see :func:`_drop_own_scope`.

    Returns:
        str: The scope, such as ``'mmpretrain'``.
    """
    scope = cfg.get('default_scope', DEFAULT_SCOPE)
    init_default_scope(scope)
    _drop_own_scope(cfg)
    return scope


def _drop_own_scope(entry: Any) -> None:
    """Take out of a config that it inherits from ``gslora_mm::...``.

    MMEngine notes there that all types of the base are of this project. Our
    types say so themselves, and all others are of the library of the config.
    """
    if isinstance(entry, Mapping | Config):
        if entry.get('_scope_') == 'gslora_mm':
            del entry['_scope_']
        for name in entry:
            _drop_own_scope(entry[name])
    elif isinstance(entry, list | tuple):
        for value in entry:
            _drop_own_scope(value)


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(
        parent.name,
        parent=parent,
        scope='gslora_mm',
        locations=[f'gslora_mm.{place}' for place in locations],
    )


def registered(registry: Registry) -> dict[str, type]:
    """All classes of a registry by type; those of this package come first.

    Args:
        registry (Registry): One of this project.
    """
    registry.import_from_location()
    return registry.module_dict


def class_of(cfg: dict, registry: Registry) -> type:
    """The class that a config of a task or a method asks for.

    Args:
        cfg (dict): With ``type``, as ``'gslora_mm.Name'`` or ``'Name'``.
        registry (Registry): ``TASKS`` or ``METHODS``.

    Raises:
        ConfigError: If there is no such class; names the nearest ones.
    """
    name = str(cfg.get('type')).removeprefix('gslora_mm.')
    known = registered(registry)
    if name not in known:
        raise unknown_name(f'{registry.name}.type', name, known)
    return known[name]


def _build(cfg: dict, registry: Registry) -> Any:
    """Build from a registry of this project, whatever the default scope."""
    settings = {key: value for key, value in cfg.items() if key != 'type'}
    cls = class_of(cfg, registry)
    check_arguments(cls, settings, registry.name)
    return cls(**settings)


def check_arguments(function: Callable, settings: dict, key: str) -> None:
    """Refuse an entry of a config that does not fit what it is for.

    Args:
        function (Callable): What will be called with the settings.
        settings (dict): Its keyword arguments.
        key (str): Config key that the error names.

    Raises:
        ConfigError: If an argument is unknown or missing.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(**settings)
    except TypeError as error:
        arguments = ', '.join(signature.parameters)
        raise ConfigError(
            key, settings, f'{error}; arguments are {arguments}'
        ) from None


def _own(name: str, location: str) -> Registry:
    return Registry(
        name,
        build_func=_build,
        scope='gslora_mm',
        locations=[f'gslora_mm.{location}'],
    )


DATASETS = _child(mmengine_registry.DATASETS, 'datasets')
DATA_SAMPLERS = _child(mmengine_registry.DATA_SAMPLERS, 'datasets')
HOOKS = _child(mmengine_registry.HOOKS, 'training.hooks')
METRICS = _child(mmengine_registry.METRICS, 'evaluation')
MODELS = _child(mmengine_registry.MODELS, 'models', 'training')
OPTIM_WRAPPERS = _child(mmengine_registry.OPTIM_WRAPPERS, 'training')
RUNNERS = _child(mmengine_registry.RUNNERS, 'training')
TRANSFORMS = _child(mmengine_registry.TRANSFORMS, 'datasets')

TASKS = _own('task', 'tasks')
METHODS = _own('method', 'methods')
ATTACKS = _own('attack', 'audits')

#: What draws before-and-after pictures, by the name of the task.
PICTURES = Registry(
    'pictures',
    scope='gslora_mm',
    locations=[
        'gslora_mm.reports.detection_pictures',
        'gslora_mm.reports.classification_pictures',
    ],
)
