from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gslora_mm.utils import ConfigError
from .entry import Entry


@dataclass(frozen=True, kw_only=True)
class ForgettingEntry(Entry):
    """``forgetting``: which classes go when, and with what data.

    Attributes:
        pretrained (str): Path or URL of the stock checkpoint.
        steps (list | dict): Class names of each step, or the arguments of a
            :class:`~gslora_mm.datasets.ClassOrder`.
        retain_share (float | None): Share of the retained images to use; 0
            if there are none.
        forget_share (float | None): The same of the images to forget.
        shots (int | None): Images per class to use, in place of shares, but
            for a share of 0.
        missing (list | str): Retained classes without replay data, or
            ``'rest'``: all that the training set does not show.
        learn (list): Class names to be learned at each step.
        sampling (str): How images are drawn, see
            :func:`~gslora_mm.datasets.select_images`.
        other_annotations (str | dict): ``'drop'``, ``'keep'`` or
            ``'ignore'`` objects of other classes, or one of these for each
            half.
        only_split_images (bool): Whether a split is scored on the images
            that show one of its classes alone.
        validation_share (float | None): Share of the validation images to
            score; None: all of them.
        allow_pickle (bool): Whether the checkpoint may hold pickled code.
        seed (int): Seed of the draw of images.
    """

    pretrained: str
    steps: Any
    retain_share: float | None = None
    forget_share: float | None = None
    shots: int | None = None
    missing: Any = field(default_factory=list)
    learn: Any = field(default_factory=list)
    sampling: str = 'balanced'
    other_annotations: Any = 'drop'
    only_split_images: bool = False
    validation_share: float | None = None
    allow_pickle: bool = False
    seed: int = 0

    meanings: ClassVar = dict(
        pretrained='path or url of the stock checkpoint that is to forget',
        steps='a list with the class names of each step',
    )

    def __post_init__(self) -> None:
        for name in ('only_split_images', 'allow_pickle'):
            # 'no' and 'False', as command lines and YAML write them, are true.
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    name, getattr(self, name), 'must be True or False'
                )

    @property
    def absent(self) -> tuple[str, ...]:
        """Halves of which there is no image at all, by their roles."""
        shares = {role: self.share_of(role) for role in ('forget', 'retain')}
        return tuple(
            role
            for role, share in shares.items()
            if share == 0 and not isinstance(share, bool)
        )

    def share_of(self, role: str) -> float | None:
        """The share of images of the forget or the retain half."""
        return getattr(self, f'{role}_share')

    def other_annotations_of(self, role: str) -> str:
        """What happens to objects of other classes in a half."""
        if isinstance(self.other_annotations, Mapping):
            return self.other_annotations.get(role, 'drop')
        return self.other_annotations
