"""From a model and a few names to the config of a sequence.

What is written is as short as what a user would write by hand: it inherits
from the config of the model and from configs of this package.
"""

import keyword
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gslora_mm.datasets import build_dataset, check_class_names
from gslora_mm.entries import ForgettingEntry, MethodEntry, read_entries
from gslora_mm.registry import (
    DATASETS,
    METHODS,
    TASKS,
    class_of,
    init_scope,
    registered,
)
from gslora_mm.tasks import complete_task_config
from gslora_mm.utils import (
    ConfigError,
    atomic_write,
    config_path,
    unknown_name,
    usable,
)
from gslora_mm.utils.config_file import (
    INSTALLED,
    OWN,
    located,
    own_configs,
)
from gslora_mm.utils.quiet import no_prints
from gslora_mm.utils.text import shortened
from gslora_mm.work_dir import WorkDir
from .plan import ForgettingPlan
from .stock_config import check_entries

#: How deep a forgetting goes, and the file of _base_/methods for it: what is
#: to be gone is what the model says, what its features tell, or what could be
#: trained back from its weights.
LEVELS = dict(
    behaviour='masked_distillation',
    features='counterfactual',
    weights='noise_and_distil',
)

#: File of _base_/schedules that finds its settings, whatever the task.
AUTO = 'auto'

#: Those of methods that do not forget from the first iteration on, so that
#: there is nothing to find settings by; by task: for a LoRA, and for all
#: weights.
SCHEDULES = dict(
    detection=('detector', 'detector_full'),
    classification=('mini_classifier', 'mini_classifier_full'),
)

#: Those of the levels that have some of their own, by task.
LEVEL_SCHEDULES = dict(
    features=dict(detection='features', classification='features'),
    weights=dict(detection='weights', classification='weights_classifier'),
)

#: Methods that _base_/tasks/matched_queries.py is not made for: they push
#: nothing away from the queries of single objects. All others need it, where
#: images to forget are full of objects that are to stay.
OF_ALL_QUERIES = (
    'counterfactual',
    'delete',
    'fine_tune',
    'masked_distillation',
    'noise_and_distil',
    'random_drop',
    'retrain',
    'scrub',
    'scrub_s',
)



def write_request(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    forget: Sequence[Iterable[str | int]],
    *,
    level: str | None = None,
    method: str | None = None,
    share: float | None = None,
    shots: int | None = None,
    work_dir: str | os.PathLike | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the sequence config that makes a model forget.

    Args:
        config (str | os.PathLike): Config that the model was trained with,
            of mmdet or mmpretrain, from anywhere, or one of this package,
            ``'gslora_mm::...'``. The entries ``method``
            (with ``adapter``), ``schedule`` and ``task`` are kept if it has
            them.
        checkpoint (str | os.PathLike): Path or URL of the stock checkpoint.
        forget (Sequence[Iterable[str | int]]): For each request the classes
            to forget, as :func:`complete_name` takes them.
        level (str, optional): How deep it goes, a key of :data:`LEVELS`.
            Defaults to None: ``'behaviour'``, if there is no ``method``.
        method (str, optional): The method, by its class or by its file in
            ``_base_/methods``, in place of that of a level. Defaults to None.
        share (float, optional): Share of the images to use, in (0, 1].
            Defaults to None: all of them, if there are no ``shots``.
        shots (int, optional): Images of each class to use. Defaults to None.
        work_dir (str | os.PathLike, optional): Work dir of the sequence.
            Defaults to None: ``work_dirs/NAME_OF_THE_CONFIG_forget``.
        options (Mapping[str, Any], optional): More settings by dotted key,
            as for ``--cfg-options``. Defaults to None.

    Returns:
        Path: The config, ``forget.py`` in the work dir; for
        ``tools/train.py`` or, once read, :class:`ForgettingSequence`.

    Raises:
        ConfigError: Naming the argument or the entry of the config, what it
            is, and what it could be. Nothing has been written then.
    """
    _check_one_of('share', share, 'shots', shots)
    _check_one_of('method', method, 'level', level)
    if not os.fspath(config).endswith(('.py', '.json', '.yaml', '.yml')):
        raise ConfigError('config', config, 'must be a config file, *.py')
    source = _absolute(located(config))
    with usable('config'):
        stock = _read_stock(source)
    check_entries(stock)
    watches = (options or {}).get('forgetting.forget_share') != 0
    bases = [source, *_bases(stock, level, method, watches)]
    classes = _class_names(stock)
    steps = [
        [complete_name(name, classes, f'forget[{index}]') for name in names]
        for index, names in enumerate(forget)
    ]
    shares = dict(retain_share=share, forget_share=share, shots=shots)
    forgetting = dict(
        pretrained=_absolute(checkpoint),
        steps=steps,
        **{key: value for key, value in shares.items() if value is not None},
    )
    inside = [f'steps[{index}]' for index in range(len(steps))]
    renamed = {
        f'forgetting.{path}': path.replace('steps', 'forget')
        for path in ('steps', *inside)
    }
    with config_path(renamed=renamed):
        ForgettingPlan.make(ForgettingEntry.read(forgetting), classes)
    if work_dir is None:
        work_dir = Path('work_dirs', f'{Path(source).stem}_forget')
    entries = dict(forgetting=forgetting, work_dir=os.fspath(work_dir))
    with usable('config'):
        _add_options(entries, options or {}, _read(_header(bases)))
    lines = [_comment(steps), _header(bases)]
    lines += [
        f'val_{kind} = _base_.test_{kind}'
        for kind in ('dataloader', 'evaluator')
        if not stock.get(f'val_{kind}') and stock.get(f'test_{kind}')
    ]
    lines += [
        f'{name} = {_code(value, before=len(name) + 3)}'
        for name, value in entries.items()
    ]
    text = '\n'.join(lines) + '\n'
    with usable('config'):
        read_entries(_read(text))
    return _write(text, WorkDir(work_dir))


def complete_name(
    name: str | int, classes: Sequence[str], path: str = 'forget'
) -> str:
    """Find the class that a user means.

    Args:
        name (str | int): The name of a class; in whatever case, with spaces
            for ``_`` and ``-``; the beginning of it, if no other one begins
            so; or its label.
        classes (Sequence[str]): Names of all classes, in label order.
        path (str): Config path that errors name. Defaults to ``'forget'``.

    Raises:
        ConfigError: If there is no such class, or more than one.
    """
    if name in classes:
        return str(name)
    if re.fullmatch(r'-?\d+', str(name)):
        if 0 <= int(name) < len(classes):
            return classes[int(name)]
        raise ConfigError(
            path,
            name,
            'no class has this name or label; labels are 0 '
            f'({classes[0]!r}) to {len(classes) - 1} ({classes[-1]!r})',
        )
    wanted = _plain(str(name))
    same = [each for each in classes if _plain(each) == wanted]
    longer = [each for each in classes if _plain(each).startswith(wanted)]
    found = same or longer
    if not found or not wanted:
        raise unknown_name(path, name, classes)
    if len(found) > 1:
        raise ConfigError(
            path, name, f'may be each of {shortened(found)}; write more of it'
        )
    return found[0]


def _plain(name: str) -> str:
    """A name without what users do not remember."""
    return name.lower().replace('_', ' ').replace('-', ' ')


def _check_one_of(name: str, value: Any, other: str, its_value: Any) -> None:
    if value is not None and its_value is not None:
        raise ConfigError(
            name,
            value,
            f'{other} is given, too ({its_value!r}); leave one out',
        )


def _absolute(path: str | os.PathLike) -> str:
    """A path that does not depend on where it is read; URLs stay."""
    text = os.fspath(path)
    return text if '://' in text else os.path.abspath(os.path.expanduser(text))


def _read_stock(path: str) -> Config:
    """Read the config of the model, on which a sequence is to be put."""
    if not Path(path).is_file():
        raise ConfigError('config', path, 'no such file')
    try:
        cfg = _read(_header([path]))
    except RuntimeError as error:
        if 'lazy_import' not in str(error):
            raise
        plain = f'{Path(path).stem}_plain.py'
        raise ConfigError(
            'config',
            path,
            'no text config can inherit from one of the new style (read_base)'
            '; write it out, and give what comes out: python -c "from '
            f"mmengine.config import Config; Config.fromfile('{path}')"
            f".dump('{plain}')\"",
        ) from None
    for entry, valid in dict(
        forgetting='it says itself what to forget; run it with '
        'tools/train.py, or give the config of its model',
        forgetting_step='it is the config of one step of a sequence; give '
        'the config of the model',
    ).items():
        if entry in cfg:
            raise ConfigError('config', path, valid)
    if 'adapter' in cfg and 'method' not in cfg:
        raise ConfigError(
            'config', path, 'it has an entry adapter, but no method it is for'
        )
    return cfg


def _bases(
    stock: Config, level: str | None, method: str | None, watches: bool
) -> list[str]:
    """Configs of this package that a sequence inherits from.

    Args:
        stock (Config): Config of the model.
        level (str, optional): See :func:`write_request`.
        method (str, optional): See :func:`write_request`.
        watches (bool): Whether there are images of what is to be forgotten,
            to find settings by.
    """
    bases, cfg = [], stock
    if 'method' not in stock:
        bases.append(_shipped('methods', _method_file(level, method)))
        cfg = _read(_header(bases))
    elif method or level:
        raise ConfigError(
            'method' if method else 'level',
            method or level,
            'the config of the model has an entry method; leave one out',
        )
    entry = complete_task_config(stock.get('task'), stock.get('default_scope'))
    task = class_of(entry, TASKS).name
    present = {*stock, *cfg}
    cls = MethodEntry(cfg.method.to_dict()).cls
    if 'schedule' not in present:
        if task not in SCHEDULES:
            raise ConfigError(
                'schedule',
                valid=f'is missing, and none is known for the task {task!r}; '
                'write one into the config of the model',
            )
        of_lora, of_all = SCHEDULES[task]
        by_task = LEVEL_SCHEDULES.get(cls.level)
        name = AUTO if by_task is None else by_task[task]
        if not (watches and cls.forgets_at_once()):
            name = of_all if cfg.get('adapter') is None else of_lora
        bases.append(_shipped('schedules', name))
    if (
        task == 'detection'
        and 'task' not in present
        and cls.name not in OF_ALL_QUERIES
    ):
        bases.append(_shipped('tasks', 'matched_queries'))
    return bases


def _method_file(level: str | None, method: str | None) -> str:
    """Name of a file of ``_base_/methods``."""
    folder = own_configs() / '_base_' / 'methods'
    files = {path.stem: path.stem for path in sorted(folder.glob('*.py'))}
    if method is not None:
        by_class = {
            name.lower(): cls.name
            for name, cls in registered(METHODS).items()
            if getattr(cls, 'name', None) in files
        }
        found = (by_class | files).get(method.lower().replace('-', '_'))
        if found is None:
            raise unknown_name('method', method, files)
        return found
    level = 'behaviour' if level is None else level
    if level not in LEVELS:
        raise unknown_name('level', level, LEVELS)
    return LEVELS[level]


def _shipped(folder: str, name: str) -> str:
    """One of our configs as a base; by its path if nothing is installed."""
    file = f'_base_/{folder}/{name}.py'
    return OWN + file if INSTALLED.is_dir() else str(own_configs() / file)


def _class_names(cfg: Config) -> list[str]:
    """Names of all classes, in label order.

    Annotations are read if the names stand nowhere else.
    """
    if not cfg.get('train_dataloader'):
        raise ConfigError(
            'train_dataloader',
            valid='the config has none; '
            'its data set has the names and the images to forget with',
        )
    init_scope(cfg)
    entry = cfg.train_dataloader.dataset
    path = 'train_dataloader.dataset'
    with config_path(path), no_prints():
        with usable(''):
            dataset = DATASETS.build({**entry, 'lazy_init': True})
        if not dataset.metainfo.get('classes'):
            dataset = build_dataset(entry)
        check_class_names(dataset)
    return list(dataset.metainfo['classes'])


def _read(text: str) -> Config:
    return Config.fromstring(text, '.py')


def _add_options(
    entries: dict[str, Any], options: Mapping[str, Any], cfg: Config
) -> None:
    """Write ``--cfg-options`` into entries.

    Args:
        entries (dict[str, Any]): To be changed.
        options (Mapping[str, Any]): By dotted key.
        cfg (Config): What the entries will be merged into, changed as well.
            In a config no single item of a list can be set, so lists are
            taken from here.
    """
    for key, value in options.items():
        with usable(key):
            cfg.merge_from_dict({key: value})
        parts = key.split('.')
        index = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
        if index:
            parts, value = parts[:index], cfg.to_dict()
            for part in parts:
                value = value[part]
        *parents, last = parts
        inside = entries
        for part in parents:
            inside = inside.setdefault(part, {})
        inside[last] = value


def _comment(steps: Sequence[Sequence[str]]) -> str:
    requests = '; then '.join(shortened(names, most=5) for names in steps)
    text = f'Forget {requests}. To be run by tools/train.py.'
    return textwrap.fill(text, 79, initial_indent='# ', subsequent_indent='# ')


def _header(bases: Sequence[str]) -> str:
    return '\n'.join(
        ['_base_ = [', *(f'    {base!r},' for base in bases), ']']
    )


def _code(value: Any, indent: int = 0, before: int = 0) -> str:
    """A value as configs are written, in lines of 79 characters.

    Args:
        value (Any): Of plain data.
        indent (int): Columns that the lines of its items begin after.
        before (int): Characters that come before it in its own line.
    """
    if isinstance(value, dict):
        if all(_is_keyword(key) for key in value):
            brackets = ('dict(', ')')
            items = {f'{key}=': each for key, each in value.items()}
        else:
            brackets = '{}'
            items = {f'{key!r}: ': each for key, each in value.items()}
        pairs = list(items.items())
    elif isinstance(value, list):
        brackets, pairs = '[]', [('', each) for each in value]
    else:
        return repr(value)
    line = ', '.join(name + _code(each, -1000) for name, each in pairs)
    line = line.join(brackets)
    if not pairs or indent + before + len(line) < 79:
        return line
    inner = indent + 4
    lines = [
        ' ' * inner + name + _code(each, inner, len(name) + 1)
        for name, each in pairs
    ]
    return ('\n' + ',\n'.join(lines)).join(brackets)


def _is_keyword(key: Any) -> bool:
    """Whether ``dict(key=...)`` can be written."""
    return str(key).isidentifier() and not keyword.iskeyword(key)


def _write(text: str, files: WorkDir) -> Path:
    """Write a config, but not over that of another run.

    Args:
        text (str): The config.
        files (WorkDir): Work dir of the sequence.

    Returns:
        Path: The file.
    """
    path = files.request
    if files.has_results:
        before = path.read_text('utf-8') if path.is_file() else None
        if before == text:
            return path
        raise ConfigError(
            'work_dir',
            str(files.path),
            'it holds results of another request; choose another one',
        )
    with atomic_write(path, 'w') as file:
        file.write(text)
    return path
