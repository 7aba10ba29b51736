import copy
import gc
import os
import os.path as osp
import time

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.registry import init_default_scope

from gslora_mm.evaluation import step_result
from gslora_mm.lora import (
    count_parameters,
    group_norms,
    merge_lora,
    save_adapter,
)
from gslora_mm.registry import RUNNERS
from gslora_mm.utils import ConfigError, atomic_path, load_json, save_json
from gslora_mm.utils.atomic import remove_leftovers
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from gslora_mm.utils.memory import peak_memory_mb, reset_peak_memory
from gslora_mm.utils.distributed import model_of
from gslora_mm.training.hooks.progress_hook import TRAIN_SECONDS
from gslora_mm.training.hooks.step_checkpoint_hook import RESUME_FILE
from .method_state import prepare_method
from .resolve import plain_config

RESULT_FILE = 'result.json'
METRICS_FILE = 'metrics.json'
CONFIG_FILE = 'config.py'
MERGED_FILE = 'merged.pth'
ADAPTER_FILE = 'adapter.safetensors'


def run_step(cfg: Config, resume: bool = False) -> dict:
    """Run one step: prepare, train, merge, evaluate, write it down.

    The step is finished once ``result.json`` is there, which is written
    last; everything before it can be repeated.

    Args:
        cfg (Config): A step's config, as
            :func:`~gslora_mm.sequence.resolve.step_config` makes it.
        resume (bool): Whether to go on from the state that an earlier,
            interrupted run left. Defaults to False.

    Returns:
        dict: The step's entry in ``report.json``.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    work_dir = cfg.work_dir
    result_file = osp.join(work_dir, RESULT_FILE)
    if osp.exists(result_file):
        if resume:
            return load_json(result_file)
        raise ConfigError(
            f'work_dir = {work_dir!r} holds a finished step; choose another '
            '--work-dir'
        )
    os.makedirs(work_dir, exist_ok=True)
    if is_main_process():
        remove_leftovers(work_dir)
        dump_config(cfg, osp.join(work_dir, CONFIG_FILE))
    barrier()
    cfg = copy.deepcopy(cfg)
    state_file = osp.join(work_dir, RESUME_FILE)
    if resume and osp.exists(state_file):
        cfg.load_from, cfg.resume = state_file, True

    reset_peak_memory()
    runner = RUNNERS.build(cfg)
    model = model_of(runner)
    dataset = runner.train_dataloader.dataset  # read here, not by the method
    start = time.perf_counter()
    prepare_method(
        model,
        dataset,
        cfg.model.method,
        cfg.forgetting_step,
        work_dir,
        resume=bool(cfg.get('resume')),
    )
    prepare_seconds = time.perf_counter() - start
    runner.train()
    peak_memory = peak_memory_mb()
    trainable, total = count_parameters(model.model)
    facts = dict(
        groups=group_norms(model.model, model.group_by),
        trainable_parameters=trainable,
        total_parameters=total,
        trainable_share=trainable / total,
        iterations=runner.iter,
        stopped_early=runner.train_loop.stop_training,
        peak_memory_mb=peak_memory,
        prepare_seconds=prepare_seconds,
        train_seconds=runner.message_hub.get_info(TRAIN_SECONDS),
    )
    if is_main_process() and model.groups:
        save_adapter(model.model, osp.join(work_dir, ADAPTER_FILE))
    merge_lora(model.model)
    if is_main_process():
        save_stock_checkpoint(
            model.model,
            runner.train_dataloader.dataset.metainfo,
            osp.join(work_dir, MERGED_FILE),
        )
    start = time.perf_counter()
    metrics = without_prefix(runner.val())
    facts['eval_seconds'] = time.perf_counter() - start

    info = cfg.forgetting_step
    before = load_json(info['before'])['metrics']
    result = step_result(
        info['step'],
        info['splits'],
        metrics,
        before,
        metric_key=model.task.metric,
    )
    result.update(facts)
    if is_main_process():
        save_json({'metrics': metrics}, osp.join(work_dir, METRICS_FILE))
        save_json(result, result_file)
        if osp.exists(state_file):
            os.remove(state_file)
    runner.close()
    barrier()
    del runner, model
    gc.collect()
    return result


def dump_config(cfg: Config, path: str) -> None:
    """Write a config as a Python file, atomically."""
    with atomic_path(path) as temporary:
        text = plain_config(cfg.to_dict()).pretty_text
        temporary.write_text(text, encoding='utf-8')


def without_prefix(metrics: dict) -> dict:
    """Flat metrics without the prefixes that metric classes add.

    Where that would give two metrics one name, the later one keeps its
    prefix; the metric that the splits are scored by comes first.
    """
    out: dict = {}
    for key, value in metrics.items():
        name = key.partition('/')[2] or key
        out[key if name in out else name] = value
    return out
