"""An adapted model, as a task reads it."""

from torch import nn

from gslora_mm.models.adapted_model import AdaptedModel
from gslora_mm.models.stock import complete_stock_config
from gslora_mm.models.stock_keys import is_frozen
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
        frozen_modules (list[nn.Module]): What stands before the first module
            that is trained.
    """

    # In a sequence config ``adapter`` is an entry of its own.
    config_entry = ''

    def __init__(
        self,
        model: dict,
        task: dict,
        adapter: dict | None = None,
        checkpoint: str | None = None,
        allow_pickle: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        # It prepares the config that the constructor below builds. nn.Module
        # accepts attributes before its constructor if they are no modules,
        # and a task is none.
        self.task = TASKS.build(task)
        model = complete_stock_config(model, data_preprocessor)
        self.task.prepare_config(model)
        if isinstance(adapter, dict):
            adapter = {'exclude': self.task.trunk, **adapter}
        super().__init__(model, adapter, checkpoint, allow_pickle)
        self.trunk_is_frozen = is_frozen(self.trunk_modules())
        self.frozen_modules = self.task.frozen_modules(self.model)

    def check_stock_model(self) -> None:
        self.task.check_model(self.model)

    def init_weights(self) -> None:
        """Keep the weights: those of the checkpoint, or random ones."""

    def trunk_modules(self) -> list[nn.Module]:
        """What comes before the Transformer."""
        names = [name for name in self.task.trunk if hasattr(self.model, name)]
        return [getattr(self.model, name) for name in names]

    def train(self, mode: bool = True) -> 'TaskModel':
        """Switch to training mode, but nothing before what is trained."""
        super().train(mode)
        if mode:
            for module in self.frozen_modules:
                module.eval()
        return self
