from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from gslora_mm.lora import lora_layers
from gslora_mm.registry import METHODS, MODELS
from gslora_mm.tasks import ROLES, TaskModel
from gslora_mm.utils import ConfigError
from gslora_mm.utils.distributed import (
    mean_over_processes,
    share_gradients,
)
from .trunk_cache import TrunkCache


@MODELS.register_module()
class ForgettingModel(TaskModel):
    """A stock model, ready to forget.

    It loads a stock checkpoint, adds the adapter, and turns a batch of
    forget and retain images into the loss of a method. The stock model is
    ``self.model``; prediction is passed through to it unchanged.

    Args:
        model (dict): Config of the stock model of mmdet or mmpretrain.
        task (dict): Config of the task, which reads the model.
        method (dict): Config of the method, which makes the loss.
        *args: See :class:`~gslora_mm.tasks.TaskModel`: ``adapter``,
            ``checkpoint``, ``allow_pickle`` and ``data_preprocessor``.
        **kwargs: The same by name.

    Attributes:
        trunk_cache (TrunkCache | None): Has what the frozen part of the
            model gives for the images of a batch, if there is one.
    """

    def __init__(
        self, model: dict, task: dict, method: dict, *args, **kwargs
    ) -> None:
        super().__init__(model, task, *args, **kwargs)
        self.trunk_cache: TrunkCache | None = None
        self.method = METHODS.build(method)
        self.method.setup(self)

    def train(self, mode: bool = True) -> 'ForgettingModel':
        """Switch to training mode, as far as the method wants it."""
        super().train(mode)
        if mode and self.method.in_evaluation_mode:
            self.model.eval()
            for layer in lora_layers(self.model).values():
                layer.train()
        return self

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """One iteration, each part of the loss back-propagated on its own.

        The halves of a batch thus never are in memory together. A trunk
        that is trained gets the gradients of all parts at once. Gradients
        are averaged over processes at the end.

        Args:
            data (dict | tuple | list): A batch of the data loader.
            optim_wrapper (OptimWrapper): Updates the trainable parameters.

        Returns:
            dict[str, Tensor]: Values for the log; ``loss`` is the sum of
            those with ``loss`` in their name.
        """
        with optim_wrapper.optim_context(self):
            data = self.data_preprocessor(data, training=True)
            trunk_output = self._extract(**data)
        trunk = DetachedOutput(trunk_output)
        parts = self._parts(trunk.output, **data)
        log: dict[str, Tensor] = {}
        total = torch.zeros(())
        while True:
            with optim_wrapper.optim_context(self):  # the forward pass
                part = next(parts, None)
            if part is None:
                break
            loss, values = self.parse_losses(part)
            if torch.is_tensor(loss) and loss.requires_grad:
                optim_wrapper.backward(optim_wrapper.scale_loss(loss))
                # It counts calls; for it, all parts are one. Publicly, the
                # count can be read but not set.
                optim_wrapper._inner_count -= 1
            total = total + torch.as_tensor(values.pop('loss')).detach()
            log.update(values)
        trunk.backward()
        optim_wrapper._inner_count += 1
        if optim_wrapper.should_update():
            share_gradients(self.parameters())
            self.method.before_update()
            optim_wrapper.step()
            optim_wrapper.zero_grad()
        return {'loss': total, **log}

    def loss(self, inputs: Tensor, data_samples: Sequence) -> dict:
        """All parts of :meth:`losses` at once."""
        losses = {}
        for part in self.losses(inputs, data_samples):
            losses.update(part)
        return losses

    def losses(
        self, inputs: Tensor, data_samples: Sequence
    ) -> Iterator[dict[str, Tensor]]:
        """The method's loss on a batch of forget and retain images.

        Args:
            inputs (Tensor): Preprocessed images, shape (N, C, H, W).
            data_samples (Sequence): N data samples, each of which says in
                its metainfo which ``role`` it plays, ``'forget'`` or
                ``'retain'``.

        Yields:
            dict[str, Tensor]: Scalars; those with ``loss`` in their name
            are summed up and trained on, the others only logged. Their
            values are means over all processes.
        """
        yield from self._parts(
            self._extract(inputs, data_samples), inputs, data_samples
        )

    def _extract(self, inputs: Tensor, data_samples: Sequence = ()) -> Any:
        """Run the trunk on the whole batch, or look up what it gave."""
        if self.trunk_cache is not None:
            return self.trunk_cache.extract(inputs, data_samples)
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and not self.trunk_is_frozen
        ):
            return self.task.extract(self.model, inputs)

    def _parts(
        self, trunk_output: Any, inputs: Tensor, data_samples: Sequence
    ) -> Iterator[dict[str, Tensor]]:
        roles = [sample.metainfo.get('role') for sample in data_samples]
        halves = {}
        for role in ROLES:
            index = [i for i, found in enumerate(roles) if found == role]
            halves[role] = self.task.half(
                self.model,
                inputs,
                trunk_output,
                data_samples,
                torch.tensor(index, dtype=torch.long, device=inputs.device),
                role,
            )
        if sum(map(len, halves.values())) != len(roles):
            raise ValueError(
                "every data sample needs metainfo role='forget' or 'retain', "
                f'as ForgetRetainDataset sets it; found {sorted(set(roles))}'
            )
        for part in self.method.losses(**halves):
            yield mean_over_processes(part)

    def resume_state_dict(self) -> 'OrderedDict[str, Tensor]':
        """What a resumed step needs beyond its starting checkpoint.

        The trainable parameters and what the method keeps - of the whole
        model only when the whole model is trained.
        """
        state = self.state_dict()
        if not (self.groups and self.trunk_is_frozen):
            # Statistics of normalisations move, too.
            return state
        trainable = {
            name
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }
        return OrderedDict(
            (key, value)
            for key, value in state.items()
            if key in trainable or key.startswith('method.')
        )

    def load_resume_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what :meth:`resume_state_dict` gave.

        Raises:
            ConfigError: If the state is of another model or adapter.
        """
        expected = self.resume_state_dict()
        if set(state) != set(expected):
            odd = sorted(set(state) ^ set(expected))
            raise ConfigError(
                'the saved state of this step is of another model, adapter '
                f'or method: {len(odd)} keys differ, first {odd[:3]}; resume '
                'with the config that started the run'
            )
        # All of it, since a model refuses to be loaded without its frozen
        # weights.
        whole = self.state_dict()
        whole.update(state)
        self.load_state_dict(whole)


class DetachedOutput:
    """The trunk's output, detached so that several losses can use it.

    Each loss's backward pass ends here and leaves its gradient; one more
    pass takes their sum through the trunk.

    Args:
        outputs (Any): Output of the trunk, a tensor or a tuple of tensors.

    Attributes:
        output (Any): The same to compute losses of.
    """

    def __init__(self, outputs: Any) -> None:
        is_tensor = torch.is_tensor(outputs)
        self.outputs = (outputs,) if is_tensor else tuple(outputs)
        # What needs no gradient stays the same object: a task may look
        # whether it is the input itself.
        self.leaves = tuple(
            output.detach().requires_grad_() if output.requires_grad
            else output
            for output in self.outputs
        )  # fmt: skip
        self.output = self.leaves[0] if is_tensor else self.leaves

    def backward(self) -> None:
        """Take the gradients that the losses left through the trunk."""
        used = [
            (output, leaf.grad)
            for output, leaf in zip(self.outputs, self.leaves, strict=True)
            if leaf.grad is not None
        ]
        if used:
            torch.autograd.backward(*zip(*used, strict=True))
