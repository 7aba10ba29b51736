import copy
from dataclasses import MISSING, dataclass, fields

from gslora_mm.methods import BaseMethod
from gslora_mm.registry import METHODS, class_of
from gslora_mm.utils import ConfigError
from .entry import default_of


@dataclass(frozen=True)
class MethodEntry:
    """``method``: the loss, with settings that may differ by step.

    Attributes:
        config (dict): As in the config.
    """

    config: dict

    @property
    def cls(self) -> type[BaseMethod]:
        """Class of the method."""
        return class_of(self.config, METHODS)

    def for_step(self, step: int, num_steps: int) -> dict:
        """The method's config with the settings of one step.

        Args:
            step (int): Number of the step, from 1.
            num_steps (int): Steps of the sequence.

        Raises:
            ConfigError: If a list has another length.
        """
        out = {}
        for name, value in self.config.items():
            if name in self.cls.per_step and isinstance(value, list | tuple):
                if len(value) != num_steps:
                    raise ConfigError(
                        f'method.{name}',
                        list(value),
                        f'it has {len(value)} entries for {num_steps} steps; '
                        'give one number, or one for each step',
                    )
                value = value[step - 1]
            out[name] = value
        return out

    def complete(self) -> dict:
        """The method's config with the defaults of its class."""
        defaults = {
            each.name: default
            for each in fields(self.cls)
            if (default := default_of(each)) is not MISSING
        }
        return copy.deepcopy({**defaults, **self.config})
