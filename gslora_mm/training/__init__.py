"""Training of one step: model, runner, optimizer, hooks, processes."""

from .forgetting_model import ForgettingModel
from .hooks import (
    AdapterEMAHook,
    AutoScheduleHook,
    ForgettingEarlyStopHook,
    GroupNormHook,
    MethodHook,
    NonFiniteLossError,
    ProgressHook,
    StepCheckpointHook,
)
from .optim import BFloat16OptimWrapper, enable_amp
from .processes import init_processes, leave
from .runner import Runner
