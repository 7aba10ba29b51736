"""How far a step has moved the weights, and how much each of them matters."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.lora import lora_layers
from gslora_mm.tasks import HalfBatch, TaskModel
from gslora_mm.utils.precision import without_autocast
from .replay import read_replay, without_adapter


class WeightDrift:
    r"""Differences of the weights from those that the step began with.

    Of a model that is trained as a whole, each trainable parameter and
    :math:`\Delta\theta = \theta - \theta^*`. With an adapter the weights W
    of the adapted layers, whose :math:`\Delta W = (\alpha / r) B A` the
    adapter is: a penalty counts what it does to the merged weight, whatever
    the two factors are.

    To be made before anything is trained, in
    :meth:`~gslora_mm.methods.BaseMethod.prepare`, where also a resumed step
    holds the weights that it began with. Not a module on purpose: it is no
    part of what a method saves.

    Args:
        model (TaskModel): At the start of a step, on its device.
    """

    def __init__(self, model: TaskModel) -> None:
        self._model = model
        self._layers = lora_layers(model.model) if model.groups else {}
        self._parameters = {} if self._layers else trained_weights(model)
        self._start = {
            name: parameter.detach().clone()
            for name, parameter in self._parameters.items()
        }

    def drift(self) -> dict[str, Tensor]:
        """Differences by the name of the weight, with gradient.

        Returns:
            dict[str, Tensor]: Of the shapes of the weights, zero at the
            start of a step.
        """
        with without_autocast(next(self._model.parameters())):
            return {
                name: layer.delta_weight()
                for name, layer in self._layers.items()
            } | {
                name: parameter - self._start[name]
                for name, parameter in self._parameters.items()
            }

    def squared(self, importance: dict[str, Tensor] | None = None) -> Tensor:
        r""":math:`\sum_i \Omega_i (\theta_i - \theta^*_i)^2`, a scalar.

        Args:
            importance (dict[str, Tensor], optional): :math:`\Omega`, of the
                names and shapes of :meth:`drift`. Defaults to None, 1 for
                each weight.
        """
        squares = {k: value.square() for k, value in self.drift().items()}
        if importance is not None:
            squares = {k: importance[k] * v for k, v in squares.items()}
        return torch.stack([value.sum() for value in squares.values()]).sum()

    def importance(
        self,
        dataset: ForgetRetainDataset,
        objective: Callable[[HalfBatch], Tensor],
        measure: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        r"""Mean of a measure of each weight's gradient over single images.

        .. math::
            \Omega = \frac{1}{N} \sum_{n=1}^N
            m\big(\nabla_\theta\, o(x_n)\big)

        over the retain replay images, in evaluation mode, at the start of a
        step. Image by image, because the gradient of a batch is a mean whose
        square or size is another thing. The result follows from model and
        data alone: a resumed step finds the same.

        Args:
            dataset (ForgetRetainDataset): The replay images of the step.
            objective (Callable): o, gives a scalar for an image.
            measure (Callable): m, entry by entry.

        Returns:
            dict[str, Tensor]: Float32, of the names and shapes of
            :meth:`drift`, without gradient.
        """
        count = 0
        with self._start_with_gradients() as weights, torch.enable_grad():
            sums = {
                name: torch.zeros_like(weight, dtype=torch.float)
                for name, weight in weights.items()
            }
            for half in read_replay(
                self._model, dataset, batch_size=1, roles=('retain',)
            ):
                gradients = torch.autograd.grad(
                    objective(half), list(weights.values()), allow_unused=True
                )
                for name, gradient in zip(weights, gradients, strict=True):
                    if gradient is not None:
                        sums[name] += measure(gradient.float())
                count += 1
        return {name: value / count for name, value in sums.items()}

    @contextmanager
    def _start_with_gradients(self) -> Iterator[dict[str, Tensor]]:
        """A context with the model as the step found it, open to gradients.

        Yields:
            dict[str, Tensor]: The weights, by the names of :meth:`drift`.
        """
        weights = trained_weights(self._model)
        try:
            for weight in weights.values():
                weight.requires_grad_(True)
            with without_adapter(self._model):
                yield weights
        finally:
            for name in self._layers:
                weights[name].requires_grad_(False)


def trained_weights(model: TaskModel) -> dict[str, Tensor]:
    """What a step changes of the stock model, as it is.

    Args:
        model (TaskModel): With its adapter, if any.

    Returns:
        dict[str, Tensor]: The weights of the adapted layers, without the
        update, by the names of the layers; or, without an adapter, all
        parameters that are trained, by theirs.
    """
    if model.groups:
        layers = lora_layers(model.model).items()
        return {name: layer.stock_weight for name, layer in layers}
    return {
        name: parameter
        for name, parameter in model.model.named_parameters()
        if parameter.requires_grad
    }
