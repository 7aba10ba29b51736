"""A benchmark of three methods, run by a script that trains nothing."""

import json
import sys

from gslora_mm.bench.benchmark import run_benchmark
from gslora_mm.bench.benchmark_config import load_benchmark
from gslora_mm.bench.results import collect

#: All that is checked before a run.
BASE = """
model = dict(type='Unused')
train_dataloader = dict(dataset=dict(metainfo=dict(classes=['zero', 'one'])))
val_dataloader = dict(dataset=dict(ann_file='val.json'))
val_evaluator = dict(type='Unused')
forgetting = dict(
    pretrained='unused', steps=[['zero', 'one'], ['two', 'three'], ['four']])
method = dict(type='gslora_mm.GSLoRA', beta=0.2, bound=4.0)
adapter = dict(rank=8)
schedule = dict(
    max_iters=4, batch_size=4, optim_wrapper=dict(optimizer=dict(lr=0.1)))
"""
#: Stands in for tools/train.py: the best beta is 0.3, a rank of 3 is broken.
SCRIPT = """
import json, os, sys
from pathlib import Path

assert sys.argv[2:] == ['--resume']
cfg = {}
exec(Path(sys.argv[1]).read_text(), cfg)
folder = Path(cfg['work_dir'])
with open(folder.parents[3] / 'calls.txt', 'a') as file:
    print(folder.relative_to(folder.parents[3]), file=file)
if cfg['adapter']['rank'] == 3:
    sys.exit('ConfigError: rank 3 is broken')
before = 0.8
steps = []
for number, names in enumerate(cfg['forgetting']['steps'], 1):
    beta = cfg['method']['beta']
    h = before - abs(beta - 0.3) + 0.01 * cfg['forgetting']['seed'] / number
    (folder / f'step_{number:02d}').mkdir(parents=True, exist_ok=True)
    path = folder / f'step_{number:02d}' / 'adapter.safetensors'
    path.write_bytes(bytes(1000 * number))
    steps.append(dict(
        step=number, forget=names, forget_score=beta / 10, retain_score=h,
        old_score=None if number == 1 else 0.1, forget_before=before,
        retain_before=before, old_before=None if number == 1 else before,
        h_mean=h, h_mean_upper_bound=before,
        per_class={'zero': beta * number, 'one': 0.5, 'two': None},
        iterations=10 * number, trainable_share=0.5, peak_memory_mb=number,
        prepare_seconds=1.0, train_seconds=2.0 * number))
report = dict(
    pretrained=dict(metric='mAP'), steps=steps,
    requests=cfg['forgetting']['steps'])
(folder / 'report.json').write_text(json.dumps(report))
"""


def write(folder, text, name='own.py'):
    path = folder / name
    path.write_text(text)
    return path


def make_benchmark(folder):
    """Write the configs of three methods, and read their benchmark."""
    write(folder, BASE, 'a.py')
    write(folder, '_base_ = "a.py"\nmethod = dict(beta=0.7)', 'b.py')
    write(folder, '_base_ = "a.py"\nadapter = dict(rank=3)', 'c.py')
    text = """
benchmark = dict(
    title='Three methods',
    runs=dict(retrain='a.py', good='b.py', broken='c.py'),
    not_applicable=dict(lirf='it needs a classifier'),
    tune=dict(
        budget=3,
        steps=1,
        settings={'val_dataloader.dataset.ann_file': 'tune.json'},
        search=dict(
            good={'method.beta': [0.7, 0.1, 0.35, 0.5]},
            broken={'method.beta': [0.4]})))
"""
    return load_benchmark(write(folder, text))


def run(benchmark, folder, **kwargs):
    lines = []
    outcomes = run_benchmark(
        benchmark,
        folder / 'runs',
        [sys.executable, '-c', SCRIPT],
        say=lines.append,
        **kwargs,
    )
    return {each.name: each for each in outcomes}, lines


def calls(folder):
    path = folder / 'runs' / 'calls.txt'
    return path.read_text().splitlines() if path.exists() else []


def results(benchmark, outcomes, seeds=(0,)):
    found = collect(benchmark, list(outcomes.values()), seeds, tuned=True)
    return json.loads(json.dumps(found, default=str))
