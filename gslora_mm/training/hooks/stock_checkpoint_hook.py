import os.path as osp
from dataclasses import dataclass
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from gslora_mm.lora import save_adapter
from gslora_mm.models import AdaptedModel
from gslora_mm.registry import HOOKS
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from gslora_mm.utils.distributed import model_of
from gslora_mm.work_dir import StepDir


@HOOKS.register_module()
@dataclass(eq=False)
class StockCheckpointHook(Hook):
    """Leave a finished training run's model as a stock checkpoint.

    Weights and class names only, written atomically as the last act: where
    the file is, training has finished. The adapter of an
    :class:`~gslora_mm.models.AdaptedModel` is folded in, and lies beside it
    in ``adapter.safetensors``.

    Args:
        filename (str): Name of the file in the work dir.
            Defaults to ``'pretrained.pth'``.
    """

    filename: str = 'pretrained.pth'

    priority = 'VERY_LOW'

    @master_only
    def after_train(self, runner) -> None:
        model = model_of(runner)
        state_dict = model.state_dict()
        if isinstance(model, AdaptedModel):
            state_dict = model.stock_state_dict()
            if model.groups:
                path = StepDir(Path(runner.work_dir)).adapter
                save_adapter(model.model, path)
        save_stock_checkpoint(
            state_dict,
            runner.train_dataloader.dataset.metainfo,
            osp.join(runner.work_dir, self.filename),
        )
