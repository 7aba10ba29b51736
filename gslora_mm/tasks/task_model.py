"""An adapted model, as a task reads it."""

import copy

from torch import nn

from gslora_mm.models.adapted_model import AdaptedModel, is_frozen
from gslora_mm.registry import TASKS


class TaskModel(AdaptedModel):
    """A stock model with an adapter, and the task that reads it.

    Args:
        model (dict): Config of the stock model of mmdet or mmpretrain.
        task (dict): Config of the task.
        adapter (dict, optional): As in :class:`AdaptedModel`; the task's
            trunk gets none unless it says so. Defaults to None.
        checkpoint (str, optional): As in :class:`AdaptedModel`.
        allow_pickle (bool): As in :class:`AdaptedModel`.
        data_preprocessor (dict, optional): As in :class:`AdaptedModel`.

    Attributes:
        task (BaseTask): The task.
        trunk_is_frozen (bool): Whether nothing of the trunk is trained.
    """

    def __init__(
        self,
        model: dict,
        task: dict,
        adapter: dict | None = None,
        checkpoint: str | None = None,
        allow_pickle: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        built = TASKS.build(task)
        model = copy.deepcopy(model)
        if data_preprocessor is not None:
            model.setdefault('data_preprocessor', data_preprocessor)
        built.prepare_config(model)
        if adapter is not None:
            adapter = {'exclude': built.trunk, **adapter}
        self._task_of_setup = built
        super().__init__(model, adapter, checkpoint, allow_pickle)
        self.trunk_is_frozen = is_frozen(self.trunk_modules())

    @property
    def task(self):
        """The task that reads the model."""
        return self._task_of_setup

    def check_stock_model(self) -> None:
        self.task.check_model(self.model)

    def trunk_modules(self) -> list[nn.Module]:
        """What comes before the Transformer."""
        names = [name for name in self.task.trunk if hasattr(self.model, name)]
        return [getattr(self.model, name) for name in names]

    def train(self, mode: bool = True) -> 'TaskModel':
        """Switch to training mode, but not a frozen trunk."""
        super().train(mode)
        if mode and self.trunk_is_frozen:
            for module in self.trunk_modules():
                module.eval()
        return self
