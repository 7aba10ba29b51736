from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gslora_mm.models.losses import distillation_loss

#: Which half of a batch a sample belongs to.
ROLES = ('forget', 'retain')
#: The logit of a class that is ruled out: a score of 0.25 %, as a class layer
#: gives before it has seen an object.
RULED_OUT = -6.0


class Seen(NamedTuple):
    """What a model makes of the rows of a half.

    Attributes:
        features (Tensor): As :attr:`HalfBatch.features`, shape (N, C).
        logits (Tensor): As :attr:`HalfBatch.logits`, (N, columns).
    """

    features: Tensor
    logits: Tensor


class View(NamedTuple):
    """All that a model makes of a half.

    Attributes:
        outputs (Any): For :meth:`HalfBatch.distance_to`: as from
            :meth:`HalfBatch.outputs_of`, of a detector in each decoder
            layer.
        layers (dict[str, Tensor]): What each Transformer block gives, by
            depth, shape (..., C): tokens of n images, or queries.
    """

    outputs: Any
    layers: dict[str, Tensor]


class HalfBatch(metaclass=ABCMeta):
    """The forget or the retain half of a batch, read through a task.

    A method sees a model only through this class. Everything is computed
    when it is first asked for, from one forward pass of the half: a method
    that never looks at the forget half never pays for it. Because the pass
    is shared, all that a method takes from a half has to be back-propagated
    together.

    The rows of :attr:`features`, :attr:`labels` and :attr:`logits` are the
    images of a classifier, and the queries of a detector's last decoder
    layer that are matched to an object; there may be none of these.

    Args:
        role (str): ``'forget'`` or ``'retain'``.
        num_samples (int): Number of images in this half.

    Attributes:
        activation (str): What makes probabilities of :attr:`logits`:
            ``'softmax'``, or ``'sigmoid'`` of each by itself.
    """

    activation: str = 'softmax'

    def __init__(self, role: str, num_samples: int) -> None:
        self.role = role
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    @property
    def loss(self) -> Tensor:
        """The model's own training loss, a scalar."""
        return self.loss_cls + self.loss_rest

    @property
    @abstractmethod
    def loss_cls(self) -> Tensor:
        """The classification loss, weighted as in training; a scalar."""

    @property
    def loss_rest(self) -> Tensor | int:
        """All other losses (boxes, auxiliary layers) summed; a scalar.

        Zero where there are none.
        """
        return 0

    @property
    def loss_background(self) -> Tensor | int:
        """The part of :attr:`loss_cls` that is of no row; a scalar.

        That of queries without an object: they have to show nothing. Zero
        for a classifier, all of whose images are rows.
        """
        return 0

    @property
    @abstractmethod
    def features(self) -> Tensor:
        """Embeddings before the last class layer, shape (N, C)."""

    @property
    @abstractmethod
    def labels(self) -> Tensor:
        """Class ids of the rows of :attr:`features`, shape (N, )."""

    @property
    @abstractmethod
    def logits(self) -> Tensor:
        """Scores of these rows, shape (N, columns).

        As at test time, before softmax or sigmoid: without a margin. There
        is a column for each class, and one more behind them for the
        background of a detector with a softmax.
        """

    @abstractmethod
    def seen_by(self, model: nn.Module) -> Seen:
        """The rows of this half, as another model sees them.

        Row i is the same image, or the same query of the same image, as row
        i here: what the other model has to say about what this one is
        trained for. Of detectors that choose their queries by the image
        (DINO, DDQ-DETR), the other model is given the queries that this one
        chose.

        Args:
            model (nn.Module): A stock model of the same config, or the same
                model in another state, such as without its adapter.
        """

    def outputs_of(self, model: nn.Module) -> Any:
        """All that another model says of this half.

        Unlike :meth:`seen_by`, all outputs count: of a detector those of
        every query, whatever it is matched to, and its box.

        Args:
            model (nn.Module): As for :meth:`seen_by`.

        Returns:
            Any: Whatever :meth:`distance_to` takes; the logits of the rows
            where there is nothing else.
        """
        return self.seen_by(model).logits

    def distance_to(
        self, outputs: Any, is_kept: Tensor, ruled_out: bool = False
    ) -> Tensor:
        """How far this model's outputs are from those of another one.

        In the classes that are kept alone: what either says of the others
        does not count, and with a softmax the rest is renormalised.

        Args:
            outputs (Any): What :meth:`outputs_of` gave for the other model,
                or the outputs of a :class:`View`.
            is_kept (Tensor): Whether a class is kept, (num_classes, ).
            ruled_out (bool): Whether the other classes count as well, as
                if the other model gave them none of its probability.
                Defaults to False.

        Returns:
            Tensor: A scalar of the size of a training loss, 0 where nothing
            differs.
        """
        columns = kept_columns(is_kept, outputs)
        if ruled_out:
            outputs = without_columns(outputs, ~columns, self.activation)
            columns = slice(None)
        return distillation_loss(
            self.logits[:, columns],
            outputs[:, columns],
            activation=self.activation,
        )

    def presence_of(
        self, outputs: Any, is_gone: Tensor, margin: float = 0.0
    ) -> Tensor:
        r"""How much of some classes this model still finds.

        .. math:: -\mathrm{mean}_i \log(1 - p_i)

        with the probability :math:`p_i` of these classes in row i, their
        logits raised by a margin; with a sigmoid summed over the classes.

        Args:
            outputs (Any): What :meth:`outputs_of` gave for the other model,
                which says where objects are; None where this one does. Not
                needed for images.
            is_gone (Tensor): Whether a class is to be gone, (num_classes, ).
            margin (float): How far below the others these classes have to
                fall. Defaults to 0.

        Returns:
            Tensor: A scalar of the size of a training loss, 0 where nothing
            of them is found.
        """
        found = presence_loss(self.logits, is_gone, margin, self.activation)
        return found.sum() / max(len(found), 1)

    @abstractmethod
    def relabelled(self, draw: Callable[[Tensor], Tensor]) -> 'HalfBatch':
        """The same images with other classes, read anew.

        Args:
            draw (Callable): Gives class ids for class ids, of shape (M, ).
                A negative one makes an object background, where the task
                has one; all objects of a class, or none.
        """


def kept_columns(
    is_kept: Tensor, logits: Tensor, background: bool = True
) -> Tensor:
    """Which columns of logits are of classes that are kept.

    Args:
        is_kept (Tensor): Whether a class is kept, (num_classes, ).
        logits (Tensor): Shape (..., columns).
        background (bool): Whether a column behind the classes is kept, too.
            Defaults to True.

    Returns:
        Tensor: Booleans of shape (columns, ), on the device of the logits.
    """
    behind = logits.shape[-1] - len(is_kept)
    return F.pad(is_kept, (0, behind), value=background).to(logits.device)


def without_columns(
    logits: Tensor, is_out: Tensor, activation: str
) -> Tensor:
    """Logits in which some columns have no probability to speak of.

    Args:
        logits (Tensor): Shape (N, columns).
        is_out (Tensor): Which of them, booleans (columns, ).
        activation (str): ``'softmax'``, where the rest keeps its ratios, or
            ``'sigmoid'``.

    Returns:
        Tensor: A copy, with :data:`RULED_OUT` in these columns; for a
        softmax that far below the sum of the others.
    """
    rest = 0.0
    if activation == 'softmax':
        rest = logits[:, ~is_out].logsumexp(1, keepdim=True)
    return torch.where(is_out, rest + RULED_OUT, logits)


def presence_loss(
    logits: Tensor, is_gone: Tensor, margin: float, activation: str
) -> Tensor:
    """The terms of :meth:`HalfBatch.presence_of`, row by row.

    Args:
        logits (Tensor): Shape (N, columns).
        is_gone (Tensor): Whether a class is to be gone, (num_classes, ).
        margin (float): Added to the logits of these classes.
        activation (str): ``'softmax'`` or ``'sigmoid'``.

    Returns:
        Tensor: Shape (N, ), in float32 at least.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    is_kept = kept_columns(~is_gone, logits)
    gone = logits[:, ~is_kept] + margin
    if activation == 'softmax':
        kept = logits[:, is_kept].logsumexp(1)
        return F.softplus(gone.logsumexp(1) - kept)
    return F.softplus(gone).sum(1)
