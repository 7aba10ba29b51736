"""A benchmark of three methods, run by a script that trains nothing."""

import json
import sys
from dataclasses import dataclass

from gslora_mm.bench.results import collect
from gslora_mm.bench.suite import load_suite
from gslora_mm.bench.tune import best_trial, run_tuned

#: All that is checked before a run.
BASE = """
default_scope = 'mmdet'
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
    task='detection', pretrained=dict(metric='mAP'), steps=steps,
    requests=cfg['forgetting']['steps'])
(folder / 'report.json').write_text(json.dumps(report))
"""


def write(folder, text, name='own.py'):
    path = folder / name
    path.write_text(text)
    return path


def make_benchmark(folder):
    """Write the suite of three methods, and read it."""
    write(folder, BASE, 'a.py')
    write(folder, 'method = dict(beta=0.7)', 'b.py')
    text = """
suite = dict(
    title='Three methods',
    base='a.py',
    not_applicable=dict(lirf='it needs a classifier'),
    trial_settings={'val_dataloader.dataset.ann_file': 'tune.json'},
    trial_steps=1,
    runs=dict(
        retrain={},
        good=dict(
            _base_='b.py',
            trials=[{'method.beta': 0.1}, {'method.beta': 0.35}]),
        broken={'adapter.rank': 3, 'trials': [{'method.beta': 0.4}]}))
"""
    return load_suite(write(folder, text))


@dataclass
class Row:
    """What became of one of the methods."""

    trials: list
    runs: list

    @property
    def chosen(self):
        return best_trial(self.trials)


def run(suite, folder, command=(sys.executable, '-c', SCRIPT), **kwargs):
    lines = []
    kwargs.setdefault('say', lines.append)
    trials, outcomes = run_tuned(suite, folder / 'runs', command, **kwargs)
    rows = {
        name: Row(tried, [each for each in outcomes if each.run.name == name])
        for name, tried in trials.items()
    }
    return rows, lines


def calls(folder):
    path = folder / 'runs' / 'calls.txt'
    return path.read_text().splitlines() if path.exists() else []


def results(suite, rows, seeds=(0,), **kwargs):
    trials = {name: row.trials for name, row in rows.items()}
    outcomes = [each for row in rows.values() for each in row.runs]
    kwargs.setdefault('tuned', True)
    found = collect(suite, trials, outcomes, seeds, **kwargs)
    return json.loads(json.dumps(found, default=str))
