"""Pictures of classifiers: the likeliest classes as bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gslora_mm.registry import PICTURES
from .pictures import (
    GONE,
    LATER,
    RETAINED,
    Fate,
    Finding,
    Pictures,
    choose_images,
    in_two_lines,
)
from .style import COLOURS

_RANKS = 3
_OTHER = 'another class'


@PICTURES.register_module(name='classification')
class ClassificationPictures(Pictures):
    """Images, and a bar for each of the likeliest classes."""

    legend = {
        RETAINED: dict(facecolor=COLOURS['retain'], alpha=0.55),
        LATER: dict(facecolor=COLOURS['forget'], alpha=0.55),
        GONE: dict(
            facecolor='white', edgecolor=COLOURS['forget'], hatch='/////'
        ),
        _OTHER: dict(facecolor='#DCDCDC'),
    }
    widths = (1.3, 1.6)

    def truth(self, info: dict, classes: Sequence[str]) -> Finding:
        return Finding([classes[int(info['gt_label'])]])

    def prediction(self, sample: Any, classes: Sequence[str]) -> Finding:
        scores = sample.pred_score.cpu().double().numpy()
        best = np.argsort(-scores, kind='stable')[:_RANKS]
        return Finding([classes[i] for i in best], scores[best].tolist())

    def choose(
        self,
        names: Sequence[Sequence[str]],
        steps: Sequence[Mapping],
        count: int | None = None,
    ) -> list[int]:
        """Two images a step and two retained ones, but at most 10.

        Those of one step stand together, the retained ones at the end.
        """
        groups = [step['forget'] for step in steps]
        groups += [step['retain'] for step in steps[-1:]]
        turn = {name: n for n, group in enumerate(groups) for name in group}
        count = count or min(2 * len(groups), 10)
        chosen = choose_images(names, groups, count)
        return sorted(chosen, key=lambda index: turn[names[index][0]])

    def height(self, image: np.ndarray) -> float:
        return 0.75

    def draw(
        self,
        axes: Axes,
        image: np.ndarray,
        truth: Finding,
        found: Finding | None,
        fate: Fate,
    ) -> None:
        """Draw bars with class and score written on them, best on top."""
        (true_name,) = truth.names
        if found is None:
            axes.imshow(image, interpolation='bilinear')
            axes.set_axis_off()
            title = in_two_lines(true_name, 22)
            axes.set_title(title, fontsize=6.5, weight='normal', pad=2)
            return
        for row, (name, score) in enumerate(
            zip(found.names, found.scores, strict=True)
        ):
            kind = fate(name) if name == true_name else _OTHER
            axes.barh(
                row, score, height=0.84, linewidth=0.8, **self.legend[kind]
            )
            text = dict(fontsize=6, va='center_baseline')
            axes.text(0.02, row, name[:20], ha='left', **text)
            axes.text(0.98, row, f'{score:.2f}', ha='right', **text)
        axes.set(xlim=(0, 1), ylim=(_RANKS - 0.5, -0.5), xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color='#CCCCCC', linewidth=0.5)
