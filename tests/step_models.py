"""The model of a step, from a sequence config, without any data."""

from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.sequence.plan import ForgettingPlan
from gslora_mm.sequence.dry_run import TASK_OF_SCOPE
from gslora_mm.sequence.resolve import (
    FORGETTING_DEFAULTS,
    SCHEDULE_DEFAULTS,
    step_config,
)
from gslora_mm.training import ForgettingModel


def build_last_step(cfg: Config) -> ForgettingModel:
    """Make the configs of all steps, and build what the last one trains.

    Args:
        cfg: A sequence config; its data need not exist.

    Returns:
        ForgettingModel: With random weights, adapter and method.
    """
    init_default_scope(cfg.default_scope)
    task = dict(cfg.get('task') or {})
    task.setdefault('type', TASK_OF_SCOPE[cfg.default_scope])
    forgetting = {**FORGETTING_DEFAULTS, **cfg.forgetting}
    classes = [f'id_{i:03d}' for i in range(100)]
    metainfo = cfg.train_dataloader.dataset.get('metainfo') or {}
    plan = ForgettingPlan.from_config(
        forgetting, metainfo.get('classes', classes)
    )
    for step in range(1, len(plan) + 1):
        out = step_config(
            cfg,
            plan,
            step,
            forgetting=forgetting,
            schedule={**SCHEDULE_DEFAULTS, **cfg.schedule},
            task=task,
            checkpoint=None,
            evaluator={},
            max_iters=[10] * len(plan),
            work_dir='unused',
            before='unused',
            pretrained_sha256='',
            method_state=None,
        )
    settings = {k: v for k, v in out.model.items() if k != 'type'}
    settings.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return ForgettingModel(**settings)
