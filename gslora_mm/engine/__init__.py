from .hooks import (
    AdapterEMAHook,
    ForgettingEarlyStopHook,
    GroupNormHook,
    MethodHook,
    NonFiniteLossError,
    ProgressHook,
    StepCheckpointHook,
)
from .optim import BFloat16OptimWrapper, enable_amp
from .plan import ForgettingPlan
from .processes import init_processes, leave
from .runner import QuietRunner
from .sequence import ForgettingSequence
from .step import run_step

__all__ = [
    'AdapterEMAHook',
    'BFloat16OptimWrapper',
    'ForgettingEarlyStopHook',
    'ForgettingPlan',
    'ForgettingSequence',
    'GroupNormHook',
    'MethodHook',
    'NonFiniteLossError',
    'ProgressHook',
    'QuietRunner',
    'StepCheckpointHook',
    'enable_amp',
    'init_processes',
    'leave',
    'run_step',
]
