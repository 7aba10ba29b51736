from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gslora_mm.models.stock_keys import is_frozen
from gslora_mm.utils import ConfigError
from .half_batch import HalfBatch
from .object_rows import ObjectRows


class BaseTask(metaclass=ABCMeta):
    """How to read one family of models.

    A task knows where the losses of a model are, what its evaluation is
    called, and what reports and tools say about its models. It knows neither
    the method nor the sequence. docs/en/adding_a_task.md shows a small one.

    Attributes:
        name (str): As it stands in ``report.json``.
        scope (str | None): ``default_scope`` of the library whose models it
            reads; a config with this scope need not name the task. None for
            a task that is always named. Defaults to None.
        metric (str): Name of the headline score in ``report.json``.
        score_name (str): Short name of this score in tables and plots; that
            of :attr:`metric` if a task has none.
        unit (str): What a row of :class:`HalfBatch` is, such as ``'image'``
            or ``'object'``. Defaults to ``'image'``.
        prediction_dump (str): Type of the metric that writes predictions to
            a file, with an argument ``out_file_path``. Defaults to MMEngine's
            ``'DumpResults'``.
        picture_note (str): How to read the report's pictures, one sentence.
            Defaults to ``''``.
        trunk (tuple[str, ...]): Child modules that come before the
            Transformer. Frozen, they run once for the whole batch.
        prototype_source (str): Where prototypes of the classes come from if
            a method does not say: ``'features'`` (means of
            :attr:`HalfBatch.features`) or ``'class_layer'``
            (:meth:`class_weights`).
        has_background (bool): Whether something may be of no class at all.
        head (str): Child module with the class layer. Defaults to
            ``'head'``.
    """

    name: str
    scope: str | None = None
    metric: str
    score_name: str
    unit: str = 'image'
    prediction_dump: str = 'DumpResults'
    picture_note: str = ''
    trunk: tuple[str, ...] = ()
    prototype_source: str = 'features'
    has_background: bool = False
    head: str = 'head'

    def prepare_config(self, model: dict) -> None:  # noqa: B027
        """Take out of a config what would mix the halves of a batch.

        Args:
            model (dict): Config of the stock model, with its data
                preprocessor; changed in place.
        """

    @abstractmethod
    def check_model(self, model: nn.Module) -> None:
        """Raise a :class:`ConfigError` if this task cannot read ``model``."""

    @abstractmethod
    def num_classes(self, model: nn.Module) -> int:
        """Number of classes that ``model`` tells apart."""

    def class_layer(self, model: nn.Module) -> nn.Module:
        """The last class layer, which reads an embedding.

        Args:
            model (nn.Module): The (adapted) stock model.

        Returns:
            nn.Module: With a ``weight`` of a row for each class, and perhaps
            one more behind them for the background.

        Raises:
            ConfigError: If the head has no such layer, as by default.
        """
        raise ConfigError(
            'task.type',
            type(self).__name__,
            'does not say where a model has its class layer; give the task a '
            'class_layer(model)',
        )

    def class_layers(self, model: nn.Module) -> list[nn.Module]:
        """All layers with a row a class, :meth:`class_layer` among them."""
        return [self.class_layer(model)]

    def class_weights(self, model: nn.Module) -> Tensor:
        """Rows of the last class layer.

        Args:
            model (nn.Module): The (adapted) stock model.

        Returns:
            Tensor: A detached copy, shape (num_classes, C) with C that of
            :attr:`HalfBatch.features`; a background class is left out.

        Raises:
            ConfigError: If the head has no such layer.
        """
        weight = self.class_layer(model).weight
        return weight[: self.num_classes(model)].detach().clone()

    def logits_of(self, model: nn.Module, embeddings: Tensor) -> Tensor:
        """Scores that the class layer gives to embeddings.

        Args:
            model (nn.Module): The (adapted) stock model.
            embeddings (Tensor): As :attr:`ObjectRows.embedding`, (N, C).

        Returns:
            Tensor: Without the background, shape (N, num_classes).
        """
        return self.class_layer(model)(embeddings)[
            :, : self.num_classes(model)
        ]

    def try_model(self, model: nn.Module) -> None:  # noqa: B027
        """Compute losses once, before training, where that may fail.

        Args:
            model (nn.Module): The adapted stock model, on a CPU.

        Raises:
            ConfigError: If this task cannot read its losses.
        """

    def extract(self, model: nn.Module, inputs: Tensor) -> Any:
        """Run the trunk on a whole batch.

        Args:
            model (nn.Module): The (adapted) stock model.
            inputs (Tensor): Preprocessed images, shape (N, C, H, W).

        Returns:
            Any: Whatever :meth:`half` takes as ``trunk_output``; the
            inputs themselves where there is no trunk.
        """
        return inputs

    def frozen_modules(self, model: nn.Module) -> list[nn.Module]:
        """Modules before the first one that is trained.

        They compute as at test time while the rest is trained: for an image
        they always give the same.

        Args:
            model (nn.Module): The (adapted) stock model.

        Returns:
            list[nn.Module]: By default the trunk, if nothing of it is
            trained.
        """
        names = [name for name in self.trunk if hasattr(model, name)]
        modules = [getattr(model, name) for name in names]
        return modules if is_frozen(modules) else []

    def extract_frozen(
        self, model: nn.Module, inputs: Tensor, data_samples: Sequence
    ) -> Any:
        """Run all :meth:`frozen_modules`, for a cache to keep.

        Args:
            model (nn.Module): The (adapted) stock model.
            inputs (Tensor): As for :meth:`extract`.
            data_samples (Sequence): N data samples.

        Returns:
            Any: What :meth:`half` takes as ``trunk_output``: a tensor or a
            tuple of tensors, the N images along their first dimension. By
            default that of :meth:`extract`.
        """
        return self.extract(model, inputs)

    @abstractmethod
    def half(
        self,
        model: nn.Module,
        inputs: Tensor,
        trunk_output: Any,
        data_samples: Sequence,
        index: Tensor,
        role: str,
    ) -> HalfBatch:
        """Select one half of a batch.

        Args:
            model (nn.Module): The (adapted) stock model.
            inputs (Tensor): Images of the whole batch, as for
                :meth:`extract`.
            trunk_output (Any): What :meth:`extract` gave for them.
            data_samples (Sequence): Data samples of the whole batch.
            index (Tensor): Positions of this half in the batch, shape (n, ).
            role (str): ``'forget'`` or ``'retain'``.

        Returns:
            HalfBatch: With nothing computed yet.
        """

    def read(
        self, model: nn.Module, batch: dict, role: str = 'retain'
    ) -> HalfBatch:
        """Read a whole batch, preprocessed as at test time.

        Args:
            model (nn.Module): The (adapted) stock model.
            batch (dict): A batch of a data loader.
            role (str): Which half it is read as. Defaults to ``'retain'``.

        Returns:
            HalfBatch: All its images, to take features, labels and logits
            of.
        """
        # In training, a preprocessor may blend images.
        data = model.data_preprocessor(batch, training=False)
        inputs, samples = data['inputs'], data['data_samples']
        everything = torch.arange(len(samples), device=inputs.device)
        trunk_output = self.extract(model, inputs)
        return self.half(
            model, inputs, trunk_output, samples, everything, role
        )

    def object_rows(self, model: nn.Module, batch: dict) -> ObjectRows:
        """Read every object of a batch, at several depths if the task can.

        Args:
            model (nn.Module): A stock model in evaluation mode.
            batch (dict): A batch of a data loader.

        Returns:
            ObjectRows: By default of one depth, ``'embedding'``.
        """
        half = self.read(model, batch)
        logits = half.logits[:, : self.num_classes(model)]
        scores = half.logits.softmax(1)
        if half.activation == 'sigmoid':
            scores = half.logits.sigmoid()
        scores = scores[:, : logits.shape[1]]
        return ObjectRows(
            half.labels,
            {'embedding': half.features},
            logits,
            scores,
            scores.amax(1),
            scores.argmax(1) == half.labels,
        )

    @abstractmethod
    def evaluator(
        self,
        evaluator: dict | list[dict],
        splits: dict[str, list[str]],
        only_split_images: bool,
    ) -> dict | list[dict]:
        """Turn the stock evaluator of a config into the forgetting one.

        Args:
            evaluator (dict | list[dict]): ``val_evaluator`` of the config.
            splits (dict[str, list[str]]): Class names of each split.
            only_split_images (bool): Score a split only on images that
                show one of its classes, as the papers do.

        Returns:
            dict | list[dict]: Config of a metric that scores all splits in
            one pass; in a list it comes first.

        Raises:
            ConfigError: If the evaluator is not one this task can split.
        """

    def picture_hook(
        self, show_dir: str | None, work_dir: str, **shown: Any
    ) -> dict | None:
        """Config of a hook that paints predictions in a test.

        Args:
            show_dir (str, optional): Folder in the work dir for the painted
                images.
            work_dir (str): Work dir of the test.
            **shown: ``show``, whether they come up on the screen, and
                ``wait_time``, the seconds between two of them.

        Returns:
            dict | None: None if this task paints nothing.
        """
        return None


def pick_metric(
    evaluator: dict | list[dict] | None, names: Sequence[str], valid: str
) -> tuple[dict, list[dict]]:
    """The one metric of a config that a task scores by, and the others.

    Args:
        evaluator (dict | list[dict], optional): ``val_evaluator``.
        names (Sequence[str]): Its types, without a scope.
        valid (str): What it has to be, for the error.

    Raises:
        ConfigError: If there is not exactly one of them.
    """
    metrics = [evaluator] if isinstance(evaluator, dict) else evaluator or []
    found = [metric for metric in metrics if is_of_type(metric, *names)]
    if len(found) != 1:
        raise ConfigError('val_evaluator', evaluator, valid)
    return found[0], [metric for metric in metrics if metric is not found[0]]


def is_of_type(config: Any, *names: str) -> bool:
    """Whether a config is one of some types, of whatever scope.

    Args:
        config (Any): Anything; only a dictionary has a type.
        *names (str): Names of types, without a scope.
    """
    kind = config.get('type') if isinstance(config, dict) else None
    return str(kind).split('.')[-1] in names
