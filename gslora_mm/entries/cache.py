from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gslora_mm.utils import ConfigError
from .entry import Entry

USES = ('auto', 'on', 'off')
STORES = ('memory', 'file')


@dataclass(frozen=True, kw_only=True)
class CacheEntry(Entry):
    """``schedule.cache``: replay images that are read and computed once.

    Attributes:
        use (str): ``'auto'`` where it is exact, fits and saves something,
            ``'on'`` to be refused where it cannot be, or ``'off'``.
        limit_gib (float): Most that is kept, in GiB a process.
        store (str): Where: ``'memory'``, or a ``'file'`` in the step's work
            dir that is gone when the process ends.
        variants (int | None): Random augmentations of an image that are
            drawn, and then used in turn; None caches only where nothing is
            random.
    """

    use: str = 'auto'
    limit_gib: float = 2.0
    store: str = 'memory'
    variants: int | None = None

    meanings: ClassVar = {}

    def __post_init__(self) -> None:
        for name, known in (('use', USES), ('store', STORES)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    name, getattr(self, name), f'must be one of {known}'
                )
        if not _is_number(self.limit_gib, (int, float), above=0):
            raise ConfigError(
                'limit_gib', self.limit_gib, 'must be a number above 0'
            )
        if self.variants is not None and not _is_number(self.variants, int):
            raise ConfigError(
                'variants', self.variants, 'must be an int >= 1, or None'
            )

    @classmethod
    def read(cls, entry: Any) -> 'CacheEntry':
        if isinstance(entry, cls):
            return entry
        if not isinstance(entry, Mapping):
            raise ConfigError(
                '', entry, "must be a dictionary, such as dict(use='off')"
            )
        return super().read(entry)


def _is_number(value: Any, types: Any, above: float = 0) -> bool:
    return (
        isinstance(value, types)
        and not isinstance(value, bool)
        and above < value < float('inf')
    )
