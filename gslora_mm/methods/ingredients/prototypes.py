import torch
from torch import Tensor, nn

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import HalfBatch, TaskModel
from gslora_mm.utils.distributed import mean_over_processes
from .replay import read_replay, without_adapter


class Prototypes:
    """One feature vector for each class.

    Args:
        source (str, optional): ``'features'``, for the mean feature of each
            class over the replay images, or ``'class_layer'``, for the rows
            of the last class layer. None has to be replaced before use.

    Attributes:
        rows (Tensor): The prototypes, float32 of shape (num_classes, C);
            (0, 0) before there are any.
        known (Tensor): Whether a class has one, shape (num_classes, ).
    """

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.rows = torch.zeros(0, 0)
        self.known = torch.zeros(0, dtype=torch.bool)

    def make(
        self,
        model: TaskModel,
        dataset: ForgetRetainDataset,
        passes: int = 1,
        batch_size: int = 16,
    ) -> None:
        """Make the prototypes of a model, without its adapter.

        Args:
            model (TaskModel): See :func:`class_means`.
            dataset (ForgetRetainDataset): See :func:`class_means`.
            passes (int): See :func:`class_means`. Defaults to 1.
            batch_size (int): See :func:`class_means`. Defaults to 16.
        """
        if self.source == 'class_layer':
            self.rows = model.task.class_weights(model.model).detach().float()
            self.known = torch.ones(len(self.rows), dtype=torch.bool)
        else:
            self.rows, counts = class_means(model, dataset, passes, batch_size)
            self.known = counts > 0

    def state(self) -> dict[str, Tensor]:
        """What :meth:`load` takes."""
        return {
            f'prototypes.{self.source}': self.rows,
            'has_prototype': self.known,
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave.

        Raises:
            ValueError: If these are no prototypes, or of another source.
        """
        expected = self.state()
        if set(state) != set(expected):
            raise ValueError(
                f'holds {sorted(state)}, not {sorted(expected)}; '
                f'method.prototype_source is {self.source!r}'
            )
        rows, known = (state[key] for key in expected)
        if rows.dim() != 2 or known.shape != rows.shape[:1]:
            raise ValueError(
                f'holds prototypes of shape {tuple(rows.shape)} and '
                f'has_prototype of shape {tuple(known.shape)}, not (classes, '
                'C) and (classes, )'
            )
        if not rows.isfinite().all():
            raise ValueError('holds prototypes that are not finite')
        self.rows, self.known = rows.detach().float(), known.bool()

    def missing(self, dataset: ForgetRetainDataset) -> list[str]:
        """Names of the classes with replay images and without a prototype."""
        classes = dataset.metainfo['classes']
        label_of = {name: label for label, name in enumerate(classes)}
        return [
            name
            for subset in dataset.datasets
            for name, images in subset.class_counts.items()
            if images and not self.known[label_of[name]]
        ]

    def divergence(
        self, half: HalfBatch, loss: nn.Module
    ) -> tuple[Tensor, bool]:
        """Mean divergence of a half's features from their prototypes.

        Features of classes without a prototype are left out.

        Args:
            half (HalfBatch): With N features of shape (N, C).
            loss (nn.Module): The divergence, as
                :class:`~gslora_mm.models.losses.PrototypeLoss`.

        Returns:
            tuple[Tensor, bool]: A scalar whose mean over the processes is
            that over all their features, whatever share of them this
            process has; and whether any process has one.
        """
        if not len(self.rows):
            raise RuntimeError('GSLoRAPP has no prototypes: prepare() first')
        device = half.features.device
        self.rows, self.known = self.rows.to(device), self.known.to(device)
        known = self.known[half.labels]
        features, labels = half.features[known], half.labels[known]
        value = loss(features.float(), labels, self.rows)
        count = value.new_tensor(float(len(labels)))
        mean_count = mean_over_processes({'rows': count})['rows'].item()
        if not mean_count:
            return value, False
        return value * (len(labels) / mean_count), True


@torch.no_grad()
def class_means(
    model: TaskModel,
    dataset: ForgetRetainDataset,
    passes: int = 1,
    batch_size: int = 16,
) -> tuple[Tensor, Tensor]:
    r"""Mean feature of every class, of the model without its adapter.

    .. math:: p_k = \frac{1}{|\{i: y_i = k\}|} \sum_{i: y_i = k} f_i

    over the images of both halves, in evaluation mode. Images come through
    the training pipeline, so that more than one pass averages over its
    augmentations as well. The result follows from model and data alone: each
    sample is drawn from a seed of its own.

    Args:
        model (TaskModel): Its mode is put back at the end.
        dataset (ForgetRetainDataset): The replay images of a step.
        passes (int): Times that each image is read. Defaults to 1.
        batch_size (int): Images of a batch. Defaults to 16.

    Returns:
        tuple[Tensor, Tensor]: Means, float32 of shape (num_classes, C), zero
        for a class without data; and the number of features that each is the
        mean of, shape (num_classes, ). Both on the CPU.
    """
    num_classes = model.task.num_classes(model.model)
    counts = torch.zeros(num_classes, dtype=torch.long)
    sums = None
    with without_adapter(model):
        for half in read_replay(model, dataset, batch_size, passes):
            features = half.features.cpu().double()
            labels = half.labels.cpu()
            if sums is None:
                sums = features.new_zeros(num_classes, features.shape[1])
            sums.index_add_(0, labels, features)
            counts += labels.bincount(minlength=num_classes)
    return (sums / counts.clamp(min=1)[:, None]).float(), counts
