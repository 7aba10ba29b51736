"""Trials of a method: which settings to try next, and which to take."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from gslora_mm.registry import METHODS, class_of
from gslora_mm.sequence.identity import data_of
from gslora_mm.sequence.plan import ForgettingPlan
from gslora_mm.utils import ConfigError

#: Name of the settings that are those of the config.
AS_CONFIGURED = 'as_configured'


@dataclass(frozen=True)
class Trial:
    """Settings of a method that are tried out.

    Attributes:
        number (int): From 1 on; 1 is the config as it is.
        settings (dict): What differs from the config, by dotted key.
        h_mean (float | None): Mean H-Mean of its steps; None if it was not
            run or failed.
        error (str | None): Why it failed, or None.
        name (str): What is changed, as the name of a folder. Not the number:
            which trials there are may change with one that failed the time
            before, and results must stay where they are.
    """

    number: int
    settings: dict[str, Any]
    h_mean: float | None = None
    error: str | None = None
    name: str = AS_CONFIGURED


@dataclass(frozen=True)
class Search:
    """One setting to be searched.

    Attributes:
        key (str): The setting, by dotted key.
        values (list): Values to try beside that of the config.
    """

    key: str
    values: list


def next_trials(
    searches: Sequence[Search],
    tried: Sequence[Trial],
    place: int,
    budget: int,
) -> list[Trial]:
    """The trials of one setting, which can be run side by side.

    Settings are searched one after another. Each is varied where the best
    trial so far has the others, so that what one of them needs of another is
    found with few trials; a grid would need their product.

    Args:
        searches (Sequence[Search]): The settings, in the order of search.
        tried (Sequence[Trial]): Trials of the settings before, finished.
        place (int): Index of the setting. Trial 1, which changes nothing,
            belongs to the first one.
        budget (int): Most trials of all settings together.

    Returns:
        list[Trial]: None if the setting is not there, or nothing is left of
        the budget.
    """
    if place >= len(searches):
        return []
    keys = [search.key for search in searches]
    best = best_trial(tried) or Trial(1, {})
    settings = [{}] if not tried else []
    settings += [
        {**best.settings, searches[place].key: value}
        for value in searches[place].values
    ]
    numbered = enumerate(settings, len(tried) + 1)
    return [
        Trial(number, each, name=settings_name(each, keys))
        for number, each in numbered
        if number <= budget
    ]


def settings_name(settings: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Name of a folder for some settings, another one for each.

    Args:
        settings (Mapping[str, Any]): Values by dotted key.
        keys (Sequence[str]): All keys that settings may have.

    Returns:
        str: Such as ``'lr=0.003,beta=0.6'``, keys by their last part where
        that tells them apart; a hash where values make no name of a file.
    """
    if not settings:
        return AS_CONFIGURED
    last = [key.split('.')[-1] for key in keys]
    short = {
        key: name if last.count(name) == 1 else key
        for key, name in zip(keys, last, strict=True)
    }
    text = ','.join(f'{short[key]}={value}' for key, value in settings.items())
    if re.fullmatch(r'[\w.+=,-]{1,80}', text):
        return text
    data = json.dumps(settings, sort_keys=True, default=str)
    return f'settings_{hashlib.sha256(data.encode()).hexdigest()[:10]}'


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The best one, of equal ones the first; None if all have failed."""
    finished = [trial for trial in trials if trial.h_mean is not None]
    return max(finished, key=lambda trial: trial.h_mean, default=None)


def setting_of(cfg: Config, key: str) -> Any:
    """The value that a dotted key has in a config.

    Raises:
        ConfigError: If the config does not say.
    """
    value = cfg.to_dict()
    for part in key.split('.'):
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ConfigError(
                f'{key} is to be searched, but is not in the config; write '
                'down there what it is if nothing is searched'
            ) from None
    return value


def first_steps(cfg: Config, count: int) -> dict[str, Any]:
    """Settings that end a sequence after its first steps.

    Args:
        cfg (Config): The sequence config.
        count (int): Steps to keep.

    Returns:
        dict[str, Any]: By dotted key.

    Raises:
        ConfigError: If the config does not say what the steps are.
    """
    forgetting = cfg.forgetting.to_dict()
    steps = forgetting['steps']
    if isinstance(steps, dict):
        data = data_of(cfg.train_dataloader)
        classes = data.get('metainfo', {}).get('classes')
        if not classes or forgetting.get('missing') == 'rest':
            raise ConfigError(
                f'benchmark.tune.steps = {count}: which classes the first '
                'steps draw follows from the data; write the names out in '
                'forgetting.steps, or leave tune.steps out'
            )
        steps = ForgettingPlan.from_config(forgetting, classes).steps
    settings = {'forgetting.steps': [list(names) for names in steps[:count]]}
    if forgetting.get('learn'):
        settings['forgetting.learn'] = forgetting['learn'][:count]
    for name in class_of(cfg.method, METHODS).per_step:
        if isinstance(cfg.method.get(name), list | tuple):
            settings[f'method.{name}'] = list(cfg.method[name])[:count]
    return settings
