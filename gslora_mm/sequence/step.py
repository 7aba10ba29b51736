"""One step of a sequence, which is one ordinary run."""

import copy
import gc
import time
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.runner import Runner

from gslora_mm.datasets import type_name
from gslora_mm.entries.cache import CacheEntry
from gslora_mm.evaluation import step_result
from gslora_mm.lora import (
    count_parameters,
    group_norms,
    merge_lora,
    save_adapter,
)
from gslora_mm.registry import RUNNERS, init_scope
from gslora_mm.training.hooks.progress_hook import TRAIN_SECONDS
from gslora_mm.training.replay_cache import cache_replay
from gslora_mm.utils import ConfigError, atomic_path, load_json, save_json
from gslora_mm.utils.atomic import remove_leftovers
from gslora_mm.utils.checkpoint import save_stock_checkpoint
from gslora_mm.utils.distributed import model_of
from gslora_mm.utils.memory import peak_memory_mb, reset_peak_memory
from gslora_mm.work_dir import StepDir
from .method_state import prepare_method
from .resolve import plain_config


def run_step(cfg: Config, resume: bool = False) -> dict:
    """Run one step: prepare, train, merge, evaluate, write it down.

    The step is finished once ``result.json`` is there, which is written
    last; everything before it can be repeated.

    Args:
        cfg (Config): A step's config, as
            one of :meth:`ResolvedSequence.step_config`.
        resume (bool): Whether to go on from the state that an earlier,
            interrupted run left. Defaults to False.

    Returns:
        dict: The step's entry in ``report.json``.
    """
    init_scope(cfg)
    files = StepDir(cfg.work_dir)
    if files.is_finished:
        if resume:
            return load_json(files.result)
        raise ConfigError(
            'work_dir',
            str(files.path),
            'it holds a finished step; choose another one',
        )
    files.path.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        remove_leftovers(files.path)
        dump_config(cfg, files.config)
    barrier()
    cfg = copy.deepcopy(cfg)
    if resume and files.resume.exists():
        cfg.load_from, cfg.resume = str(files.resume), True

    reset_peak_memory()
    runner = RUNNERS.build(cfg)
    model = model_of(runner)
    # Read here, so that reading it does not count as prepare_seconds.
    loader = runner.open_train_dataloader()
    dataset = loader.dataset
    start = time.perf_counter()
    prepare_method(
        model,
        dataset,
        cfg.model.method,
        cfg.forgetting_step,
        files,
        resume=bool(cfg.get('resume')),
    )
    settings = CacheEntry.read(cfg.get('replay_cache') or dict(use='off'))
    iterations = cfg.train_cfg.max_iters
    runner.train_on(
        cache_replay(model, loader, iterations, files.path, **asdict(settings))
    )
    prepare_seconds = time.perf_counter() - start
    runner.train()
    model.trunk_cache = None
    peak_memory = peak_memory_mb()
    trainable, total = count_parameters(model.model)
    facts = dict(
        level=model.method.level,
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
        save_adapter(model.model, files.adapter)
    merge_lora(model.model)
    if is_main_process():
        save_stock_checkpoint(
            model.model,
            dataset.metainfo,
            files.merged,
        )
    facts.update(_write_down(runner, cfg, files))
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
        save_json({'metrics': metrics}, files.metrics)
        save_json(result, files.result)
        files.resume.unlink(missing_ok=True)
    runner.close()
    barrier()
    del runner, model
    gc.collect()
    return result


def _write_down(runner: Runner, cfg: Config, files: StepDir) -> dict:
    """Put what hooks have found into the config of the step.

    Returns:
        dict: The same as ``found``, by the names of the hooks; {} if none
        has looked for something.
    """
    found = {
        type(hook).__name__: hook.found
        for hook in runner.hooks
        if hasattr(hook, 'found')
    }
    for hook in cfg.custom_hooks:
        if type_name(hook) in found:
            hook.found = found[type_name(hook)]
    if found and is_main_process():
        written = Config.fromfile(files.config)
        written.custom_hooks = cfg.custom_hooks
        dump_config(written, files.config)
    return dict(found=found) if found else {}


def dump_config(cfg: Config, path: Path) -> None:
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
