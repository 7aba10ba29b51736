"""What a converter is: a table of names, and what names cannot say."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, cat, tensor

from gslora_mm.utils import ConfigError

StateDict = dict[str, Tensor]
#: In a target: the number of layers of the decoder.
LAST = '@last'

_STATISTICS = 'running_mean|running_var|num_batches_tracked'
_SUFFIX = rf'(\.?(?:weight|bias|{_STATISTICS})|)'
_PART = re.compile(r'(.*)<([qkv])\w*>\.(weight|bias)')
_WRAPPER = re.compile(r'(?:module|model|_orig_mod)\.')


@dataclass(frozen=True)
class Source:
    """A code base whose checkpoints can be converted.

    A rule renames a module or a parameter: a regular expression for its
    whole name without ``weight``, ``bias`` or the name of a statistic, and
    what to expand. Targets that end in ``<q>``, ``<k>`` and ``<v>`` (what
    follows the letter is ignored) are parts of one tensor.

    Args:
        title (str): For people.
        rules (Mapping[str, str]): Those that have to find something.
        optional (Mapping[str, str]): Others. Defaults to {}.
        finish (Callable): Changes the renamed state dict in place where
            names are not enough.
        settings (tuple[str, ...]): Arguments of it that users may set.
            Defaults to ().
        needs (Callable): The entries that a config has to have, by dotted
            name, read off the finished state dict.
        advice (tuple[str, ...]): What no tensor shows. Defaults to ().
    """

    title: str
    rules: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[..., None] = lambda state: None
    settings: tuple[str, ...] = ()
    needs: Callable[[StateDict], dict[str, Any]] = lambda state: {}
    advice: tuple[str, ...] = ()

    def rename(
        self, state_dict: Mapping[str, Tensor]
    ) -> tuple[StateDict, list[str], list[str]]:
        """Rename what can be renamed.

        Returns:
            tuple[dict[str, Tensor], list[str], list[str]]: The renamed
            tensors, the keys that no rule knows, and the rules that have to
            find something and did not.
        """
        last = str(count_layers('decoder', state_dict))
        rules = [
            (re.compile(pattern + _SUFFIX), target.replace(LAST, last))
            for pattern, target in {**self.rules, **self.optional}.items()
        ]
        out: StateDict = {}
        unknown, met = [], set()
        for key, value in state_dict.items():
            for pattern, target in rules:
                if match := pattern.fullmatch(key):
                    met.add(pattern.pattern)
                    new = match.expand(target) + match[match.lastindex]
                    # The same module under two names is no contradiction.
                    if new in out and not out[new].equal(value):
                        unknown.append(key)
                    out[new] = value
                    break
            else:
                unknown.append(key)
        missing = [rule for rule in self.rules if rule + _SUFFIX not in met]
        return out, unknown, missing

    def convert(
        self, state_dict: Mapping[str, Tensor], **settings: Any
    ) -> 'OrderedDict[str, Tensor]':
        """Make a state dict of mmdet or mmpretrain, or refuse the whole.

        A checkpoint that is read in part is another model.

        Args:
            state_dict (Mapping[str, Tensor]): Stays as it is.
            **settings: Those of :attr:`settings`.

        Raises:
            ConfigError: If keys are unknown or missing, or shapes do not
                fit.
        """
        out, unknown, missing = self.rename(unwrapped(state_dict))
        hint = ''
        if any('lora_' in key for key in unknown):
            hint = (
                '. It holds LoRA matrices beside the weights; save the model '
                'after merging them'
            )
        if unknown or missing:
            raise ConfigError(
                f'the checkpoint is not that of a {self.title}: '
                f'{len(unknown)} unknown keys {unknown[:3]}, {len(missing)} '
                f'without a match {missing[:3]}{hint}'
            )
        _join_parts(out)
        for key in [key for key in out if key.endswith('.running_var')]:
            # Frozen batch norms have no count.
            counter = key.replace('running_var', 'num_batches_tracked')
            out.setdefault(counter, tensor(0))
        self.finish(out, **settings)
        return OrderedDict(out)


def unwrapped(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Take off what parallel, compiled and Lightning models put before."""
    out = dict(state_dict)
    while (match := _WRAPPER.match(next(iter(out), ''))) and all(
        key.startswith(match[0]) for key in out
    ):
        out = {key[match.end() :]: value for key, value in out.items()}
    return out


def count_layers(name: str, state_dict: Mapping[str, Tensor]) -> int:
    """Count the entries of a module list, by the highest index in a key."""
    pattern = re.compile(rf'(?:.*\.)?{name}\.(?:layers?\.)?(\d+)\..*')
    found = map(pattern.fullmatch, state_dict)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _join_parts(state_dict: StateDict) -> None:
    """Put queries, keys and values into one tensor, in this order."""
    parts: dict[str, StateDict] = {}
    for key in list(state_dict):
        if match := _PART.fullmatch(key):
            parts.setdefault(match[1] + match[3], {})[match[2]] = (
                state_dict.pop(key)
            )
    for key, found in parts.items():
        if set(found) != set('qkv'):
            raise ConfigError(
                f'the checkpoint has only {sorted(found)} of the queries (q), '
                f'keys (k) and values (v) that make {key}'
            )
        state_dict[key] = cat([found[letter] for letter in 'qkv'])
