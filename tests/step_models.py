"""The model of a step, from a sequence config, without any data."""

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from gslora_mm.entries import read_entries
from gslora_mm.sequence import ForgettingPlan
from gslora_mm.sequence.resolve import ResolvedSequence
from gslora_mm.sequence.stock_config import stock_config
from gslora_mm.training import ForgettingModel


def build_last_step(cfg: Config) -> ForgettingModel:
    """Make the configs of all steps, and build what the last one trains.

    Args:
        cfg: A sequence config; its data need not exist.

    Returns:
        ForgettingModel: With random weights, adapter and method.
    """
    init_default_scope(cfg.default_scope)
    cfg.work_dir = 'unused'
    entries = read_entries(cfg)
    classes = [f'id_{i:03d}' for i in range(100)]
    dataset = cfg.train_dataloader.dataset
    metainfo = dataset.get('metainfo')
    if metainfo is None:  # some know their classes themselves
        with DATASETS.switch_scope_and_registry(cfg.default_scope) as known:
            metainfo = getattr(known.get(dataset.type), 'METAINFO', {})
    plan = ForgettingPlan.make(
        entries.forgetting, metainfo.get('classes', classes)
    )
    sequence = ResolvedSequence(
        cfg, entries, plan, stock_config(cfg), max_iters=[10] * len(plan)
    )
    for step in range(1, len(plan) + 1):
        out = sequence.step_config(step)
    settings = {k: v for k, v in out.model.items() if k != 'type'}
    settings['checkpoint'] = None
    settings.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return ForgettingModel(**settings)
