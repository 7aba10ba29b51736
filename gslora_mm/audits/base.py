from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from inspect import get_annotations
from typing import Any, ClassVar

from gslora_mm.methods.settings import as_several
from .evidence import Evidence, Suspect
from .outcome import Outcome


@dataclass(kw_only=True)
class BaseAttack:
    """A way to find what is left of classes that a model has forgotten.

    A subclass writes its settings as annotated class attributes, as a
    method does. Its docstring says what the attacker does, with what, and
    where this comes from. docs/en/adding_an_attack.md shows a small one.

    Attributes:
        name (str): As it stands in ``audit.json``.
        metric (str): What its figure is, such as ``'accuracy'``.
        resisting (str): What it means that a model resists, one sentence.
        reads (tuple[str, ...]): Sets of images whose rows it reads,
            ``'training'`` and ``'validation'``.
        is_share (bool): Whether its figure is a share of objects, or a mean
            of such, and no area under a curve: how far two trainings differ
            is pooled over attacks of a kind.
        two_sided (bool): Whether 0.5 is best, and less is as bad as more.
        decides (bool): Whether there is a verdict; without one the figures
            inform only.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    resisting: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    is_share: ClassVar[bool] = True
    two_sided: ClassVar[bool] = False
    decides: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in BaseAttack.__annotations__:
            if name in cls.__dict__.get('__annotations__', {}):
                cls.__annotations__[name] = ClassVar
        dataclass(kw_only=True)(cls)

    def __post_init__(self) -> None:
        types: dict[str, Any] = {}
        for base in reversed(type(self).__mro__):
            types.update(get_annotations(base, eval_str=True))
        for each in fields(self):
            value = getattr(self, each.name)
            key = f'{self.name}.{each.name}'
            setattr(self, each.name, as_several(key, value, types[each.name]))

    def why_not(self, evidence: Evidence) -> str | None:
        """Why the attack does not fit a model, None if it does.

        Args:
            evidence (Evidence): What the audit has at hand.
        """
        return None

    def cost(self, evidence: Evidence) -> float:
        """What one model costs beside the rows of :attr:`reads`.

        Args:
            evidence (Evidence): What the audit has at hand.

        Returns:
            float: In forward passes of one image; one with gradients counts
            for three. 0 by default.
        """
        return 0

    @abstractmethod
    def measure(
        self, evidence: Evidence, suspect: Suspect
    ) -> Iterator[tuple[dict, Outcome]]:
        """Attack one model.

        Args:
            evidence (Evidence): What the audit has at hand.
            suspect (Suspect): The model.

        Yields:
            tuple[dict, Outcome]: A setting, such as ``dict(shots=5)``, the
            same ones in the same order for every model; and what was found.
        """
