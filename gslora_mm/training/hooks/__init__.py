from .adapter_ema_hook import AdapterEMAHook
from .early_stop_hook import ForgettingEarlyStopHook
from .group_norm_hook import GroupNormHook
from .method_hook import MethodHook, NonFiniteLossError
from .progress_hook import ProgressHook
from .step_checkpoint_hook import StepCheckpointHook
from .step_logger_hook import StepLoggerHook
from .stock_checkpoint_hook import StockCheckpointHook
