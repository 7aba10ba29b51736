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
#: Libraries whose types are registered by their names, in their own scope.
_LIBRARIES = ('gslora_mm', 'mmdet', 'mmpretrain')


def init_scope(cfg: Mapping) -> str:
    """Look types up in the library that a config is written for.

    Args:
        cfg (Mapping): A config, of a sequence, a step or a stock model;
            changed in place, see :func:`_name_types`. One of the new style
            has no scope, and gets that of its model.

    Returns:
        str: The scope, such as ``'mmpretrain'``.
    """
    _name_types(cfg)
    scope = cfg.get('default_scope', DEFAULT_SCOPE)
    if scope is None:
        kind = str((cfg.get('model') or {}).get('type'))
        library = kind.partition('.')[0]
        scope = library if library in _LIBRARIES else DEFAULT_SCOPE
        cfg['default_scope'] = scope
    init_default_scope(scope)
    return scope


def _name_types(entry: Any) -> None:
    """Let all types of a config be names.

    In configs of the new style they are classes, and their dumps have the
    modules of these, which are not always found again: in ``mmdet``, the
    module ``smooth_l1_loss`` is hidden by a function.

    MMEngine notes in what inherits from ``gslora_mm::...`` that all types of
    the base are of this project. Our types say so themselves, and all others
    are of the library of the config, so that is taken out.
    """
    if isinstance(entry, Mapping | Config):
        if entry.get('_scope_') == 'gslora_mm':
            del entry['_scope_']
        for name in entry:
            if name == 'type':
                entry[name] = _named(entry[name])
            else:
                _name_types(entry[name])
    elif isinstance(entry, list | tuple):
        for value in entry:
            _name_types(value)


def _named(kind: Any) -> Any:
    """Name of a type by which registries know it."""
    if inspect.isclass(kind) or inspect.isfunction(kind):
        kind = f'{kind.__module__}.{kind.__qualname__}'
    if not isinstance(kind, str):
        return kind
    parts = kind.split('.')
    if len(parts) > 2 and parts[0] in _LIBRARIES:
        return f'{parts[0]}.{parts[-1]}'
    return kind


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


DATASETS = _child(mmengine_registry.DATASETS, 'datasets', 'datasets.coco_file')
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
