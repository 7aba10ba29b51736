import os.path as osp

from mmengine.dist import master_only
from mmengine.hooks import Hook

from gslora_mm.registry import HOOKS
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from gslora_mm.utils.distributed import model_of


@HOOKS.register_module()
class StockCheckpointHook(Hook):
    """Leave a finished training run's model as a stock checkpoint.

    Weights and class names only, written atomically as the last act: where
    the file is, training has finished.

    Args:
        filename (str): Name of the file in the work dir.
            Defaults to ``'pretrained.pth'``.
    """

    priority = 'VERY_LOW'

    def __init__(self, filename: str = 'pretrained.pth') -> None:
        self.filename = filename

    @master_only
    def after_train(self, runner) -> None:
        save_stock_checkpoint(
            model_of(runner),
            runner.train_dataloader.dataset.metainfo,
            osp.join(runner.work_dir, self.filename),
        )
