"""Before and after: the same validation images after every step."""

import os
import textwrap
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import mmcv
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device

from gslora_mm.datasets import build_dataset
from gslora_mm.models import build_stock_model, load_stock_checkpoint
from gslora_mm.registry import PICTURES, init_scope, registered
from gslora_mm.utils.quiet import no_prints
from gslora_mm.utils.text import shortened
from gslora_mm.work_dir import WorkDir
from .style import figure_style, save_figure


class Fate:
    """What is to become of a class, as the legend has it."""

    RETAINED = 'retained'
    LATER = 'to be forgotten'
    GONE = 'should be gone'


@dataclass(frozen=True)
class Finding:
    """What is on an image, or what a model finds there.

    Attributes:
        names (list[str]): Classes: of each object, or of the whole image,
            the likeliest first.
        scores (list[float], optional): Confidence of each, in [0, 1]; None
            for the truth.
        boxes (np.ndarray, optional): Corners (x1, y1, x2, y2) of each
            object in pixels, shape (n, 4).
    """

    names: list[str]
    scores: list[float] | None = None
    boxes: np.ndarray | None = None


@dataclass(frozen=True)
class Example:
    """An image to show.

    Attributes:
        image (np.ndarray): RGB, shape (height, width, 3).
        truth (Finding): What is on it.
    """

    image: np.ndarray
    truth: Finding


class Pictures(metaclass=ABCMeta):
    """How one task shows single images and what a model says of them.

    Subclasses register in ``PICTURES`` under the name of their task.

    Attributes:
        legend (dict[str, dict]): By meaning, those of :class:`Fate` among
            them, the style of a patch.
        widths (tuple[float, float]): Inches of the first column, the truth,
            and of one state of the model.
        title (str): Of the first column.
    """

    legend: dict[str, dict]
    widths: tuple[float, float]
    title: str = ''

    @abstractmethod
    def truth(self, info: dict, classes: Sequence[str]) -> Finding:
        """Read the ground truth of an image.

        Args:
            info (dict): Of the data set's ``get_data_info``.
            classes (Sequence[str]): Class names in the order of the labels.
        """

    @abstractmethod
    def prediction(self, sample: object, classes: Sequence[str]) -> Finding:
        """Read what a model says of an image.

        Args:
            sample (object): The data sample that its ``test_step`` returns.
            classes (Sequence[str]): Class names in the order of the labels.
        """

    @abstractmethod
    def choose(
        self, names: Sequence[Sequence[str]], steps: Sequence[Mapping]
    ) -> list[int]:
        """Choose the images to show.

        Args:
            names (Sequence[Sequence[str]]): True classes of each image.
            steps (Sequence[Mapping]): Finished steps of the report.

        Returns:
            list[int]: Positions in ``names``, in the order to show.
        """

    @abstractmethod
    def height(self, image: np.ndarray) -> float:
        """Inches of the row of an image, of shape (height, width, 3)."""

    @abstractmethod
    def draw(
        self,
        axes: Axes,
        shown: Example,
        found: Finding | None,
        fate: Callable[[str], str],
    ) -> None:
        """Draw what a model says of an image, or the ground truth.

        Args:
            axes (Axes): Where to draw.
            shown (Example): The image.
            found (Finding, optional): What the model says; None in the
                first column.
            fate (Callable): Gives the :class:`Fate` of a class.
        """


def draw_pictures(
    work_dir: str | os.PathLike,
    report: Mapping,
    path: str | os.PathLike,
) -> bool:
    """Draw what the model finds before and after each step.

    The stock model is run with the pre-trained checkpoint and each step's
    merged one, on a few validation images that show forgotten classes: on
    the GPU if there is one, else the CPU.

    Args:
        work_dir (str | os.PathLike): Work dir of a sequence.
        report (Mapping): Its report, see :func:`build_report`.
        path (str | os.PathLike): The PNG file to write, atomically.

    Returns:
        bool: Whether there was anything to draw.

    Raises:
        ConfigError: If a checkpoint or the validation data is missing or
            damaged.
        FileNotFoundError: If the config or an image is missing.
    """
    known = registered(PICTURES)
    if report['task'] not in known:
        return False
    pictures = known[report['task']]()
    run, steps, classes = WorkDir(work_dir), report['steps'], report['classes']
    config = Config.fromfile(run.pretrained.config)
    dataset = validation_set(config)
    truths = [
        pictures.truth(dataset.get_data_info(index), classes)
        for index in range(len(dataset))
    ]
    chosen = pictures.choose([truth.names for truth in truths], steps)
    if not chosen:
        return False
    checkpoints = run.models(step['step'] for step in steps)
    columns = {
        title: [pictures.prediction(sample, classes) for sample in samples]
        for title, samples in predictions(config, checkpoints, dataset, chosen)
    }
    draw_sheet(
        pictures,
        [Example(read_image(dataset, i), truths[i]) for i in chosen],
        columns,
        [step['forget'] for step in steps],
        path,
    )
    return True


def validation_set(config: Config) -> BaseDataset:
    """Build the data set of a stock config's ``val_dataloader``."""
    init_scope(config)
    with no_prints():
        return build_dataset(config.val_dataloader.dataset.to_dict())


def read_image(dataset: BaseDataset, index: int) -> np.ndarray:
    """Read an image as it was before the pipeline.

    Args:
        dataset (BaseDataset): Of files, or of arrays such as CIFAR.
        index (int): Which image.

    Returns:
        np.ndarray: RGB, shape (height, width, 3).

    Raises:
        FileNotFoundError: If its file is gone.
    """
    info = dataset.get_data_info(index)
    if 'img_path' in info:
        return mmcv.imread(info['img_path'], channel_order='rgb')
    image = np.asarray(info['img'])
    image = image.reshape(*image.shape[:2], -1)
    return np.broadcast_to(image, (*image.shape[:2], 3))


@torch.no_grad()
def predictions(
    config: Config,
    checkpoints: Mapping[str, tuple[str, bool]],
    dataset: BaseDataset,
    indices: Sequence[int],
) -> Iterator[tuple[str, list]]:
    """Run one stock model with several checkpoints.

    Args:
        config (Config): The stock config.
        checkpoints (Mapping): By title the checkpoint (path or URL) and
            whether it may be unpickled without restriction.
        dataset (BaseDataset): See :func:`validation_set`.
        indices (Sequence[int]): Images of it.

    Yields:
        tuple[str, list]: Title and the data sample of each image.

    Raises:
        ConfigError: If a checkpoint is missing, damaged or does not fit.
    """
    model = config.model.to_dict()
    # Of training alone, and announced on the console.
    model.pop('train_cfg', None)
    model = build_stock_model(model, config.get('data_preprocessor'))
    model.to(get_device())
    model.eval()  # returns None for some
    for title, (checkpoint, allow_pickle) in checkpoints.items():
        load_stock_checkpoint(model, checkpoint, allow_pickle, title)
        yield (
            title,
            [
                model.test_step(pseudo_collate([dataset[index]]))[0]
                for index in indices
            ],
        )


def draw_sheet(
    pictures: Pictures,
    examples: Sequence[Example],
    columns: Mapping[str, Sequence[Finding]],
    requests: Sequence[Sequence[str]],
    path: str | os.PathLike,
) -> None:
    """Draw a grid: a row for each image, a column for each state.

    Args:
        pictures (Pictures): How to draw one image.
        examples (Sequence[Example]): The images.
        columns (Mapping): By title what the model finds on each image: a
            column before any forgetting, then one a step.
        requests (Sequence[Sequence[str]]): Forgotten classes, by step.
        path (str | os.PathLike): The PNG file to write, atomically.
    """
    ever = {name for request in requests for name in request}
    gone: set[str] = set()

    def fate(name: str) -> str:
        if name in gone:
            return Fate.GONE
        return Fate.LATER if name in ever else Fate.RETAINED

    first, other = pictures.widths
    heights = [pictures.height(example.image) for example in examples]
    with figure_style():
        figure = Figure(
            figsize=(first + other * len(columns), sum(heights) + 0.9),
            layout='constrained',
        )
        figure.get_layout_engine().set(
            w_pad=0.025, h_pad=0.025, wspace=0.01, hspace=0.015
        )
        grid = figure.subplots(
            len(examples),
            1 + len(columns),
            squeeze=False,
            width_ratios=[first, *[other] * len(columns)],
            height_ratios=heights,
        )
        columns = {pictures.title: [None] * len(examples), **columns}
        for place, (title, found) in enumerate(columns.items()):
            if place >= 2:
                request = requests[place - 2]
                gone.update(request)
                room = int(13.5 * other)  # characters that fit at this size
                title += '\n' + in_two_lines(
                    f'forget {shortened(request, 3, 2 * room - 12)}', room
                )
            rows = zip(grid[:, place], examples, found, strict=True)
            for axes, example, finding in rows:
                pictures.draw(axes, example, finding, fate)
            if title:
                grid[0, place].set_title(title, fontsize=8, loc='center')
        figure.legend(
            handles=[
                Patch(label=label, **style)
                for label, style in pictures.legend.items()
            ],
            loc='outside lower center',
            ncols=len(pictures.legend),
            fontsize=8,
        )
        figure.draw_without_rendering()  # one pass leaves titles cut
        save_figure(figure, path)


def in_two_lines(text: str, width: int) -> str:
    """Text of at most so many characters a line, its end cut if need be."""
    return '\n'.join(
        textwrap.wrap(text, width, max_lines=2, placeholder=' ...')
    )
