import json
import re
import sys

import pytest

from gslora_mm.registry import TASKS
from gslora_mm.reports import build_report, comparable, write_report
from gslora_mm.reports.markdown import TIMING_HEADING
from gslora_mm.reports.report import TIMING_FIELDS, name_of_score
from gslora_mm.tasks import BaseTask
from gslora_mm.utils import ConfigError, load_json, save_json
from gslora_mm.work_dir import WorkDir
from tests.work_dirs import CLASSES, make_work_dir


def test_build_report_has_the_documented_shape(tmp_path):
    report = build_report(make_work_dir(tmp_path))
    assert (report['task'], report['method']) == ('detection', 'gs_lora')
    assert report['classes'] == CLASSES
    pretrained = report['pretrained']
    assert pretrained['metric'] == 'mAP'
    assert pretrained['checkpoint_sha256'] == '0123abcd' * 8
    assert list(pretrained['per_class']) == CLASSES
    first, second = report['steps']
    assert first['forget'] == ['dog', 'tie']
    assert first['old_score'] is None
    assert second['old'] == ['dog', 'tie']
    # Before is the pre-trained model's score, at every step.
    assert second['forget_before'] == pretrained['per_class']['car']
    assert set(first) >= {
        'step', 'forget', 'retain', 'old', 'forget_score', 'retain_score',
        'old_score', 'missing_score', 'forget_before', 'retain_before',
        'h_mean', 'h_mean_upper_bound', 'per_class', 'groups',
        'trainable_parameters', 'total_parameters', 'trainable_share',
        'iterations', 'train_seconds', 'eval_seconds', 'peak_memory_mb',
    }  # fmt: skip


def test_steps_finished_so_far(tmp_path):
    make_work_dir(tmp_path, finished=1)
    assert [step['step'] for step in build_report(tmp_path)['steps']] == [1]
    write_report(tmp_path, pictures=False)
    text = (tmp_path / 'report.md').read_text()
    assert 'Steps finished: 1 of 2' in text
    assert '2. car' in text  # asked for, if not done


def test_before_the_first_step(tmp_path):
    make_work_dir(tmp_path, finished=0)
    assert write_report(tmp_path)['steps'] == []
    assert not (tmp_path / 'report').exists()
    assert 'Steps finished: 0 of 2' in (tmp_path / 'report.md').read_text()


def test_files_agree_with_one_another(tmp_path):
    report = write_report(make_work_dir(tmp_path), pictures=False)
    assert load_json(tmp_path / 'report.json') == report
    text = (tmp_path / 'report.md').read_text()
    for figure in re.findall(r'!\[.*\]\((.*)\)', text):
        assert (tmp_path / figure).read_bytes().startswith(b'\x89PNG')
    assert sorted(p.name for p in (tmp_path / 'report').iterdir()) == [
        'groups.png',
        'scores.png',
    ]
    for step in report['steps']:
        change = (
            f'{100 * step["forget_before"]:.1f} -> '
            f'{100 * step["forget_score"]:.1f}'
        )
        assert change in text
        assert f' {100 * step["h_mean"]:.1f} |' in text


def test_same_run_gives_the_same_files(tmp_path):
    """Two runs that differ in time and memory alone."""
    texts, figures, reports = [], [], []
    for name, seconds in (('one', 70), ('two', 99.5)):
        work_dir = make_work_dir(tmp_path / name)
        path = work_dir / 'step_02' / 'result.json'
        timing = dict.fromkeys(TIMING_FIELDS, seconds)
        save_json(load_json(path) | timing, path)
        write_report(work_dir, pictures=False)
        texts.append((work_dir / 'report.md').read_text())
        figures.append(
            [p.read_bytes() for p in sorted((work_dir / 'report').iterdir())]
        )
        reports.append(load_json(work_dir / 'report.json'))
    assert texts[0] != texts[1]
    assert (
        texts[0].partition(TIMING_HEADING)[0]
        == texts[1].partition(TIMING_HEADING)[0]
    )
    assert figures[0] == figures[1]
    assert reports[0] != reports[1]
    assert json.dumps(comparable(reports[0])) == json.dumps(
        comparable(reports[1])
    )


def test_writing_twice_changes_nothing(tmp_path):
    make_work_dir(tmp_path)
    write_report(tmp_path, pictures=False)
    files = [tmp_path / 'report.json', tmp_path / 'report.md']
    first = [path.read_bytes() for path in files]
    write_report(tmp_path, pictures=False)
    assert [path.read_bytes() for path in files] == first
    assert not [p for p in tmp_path.rglob('.*') if p.is_file()]


def test_comparable_keeps_everything_but_times_and_memory(tmp_path):
    report = build_report(make_work_dir(tmp_path))
    kept = comparable(report)
    for field in TIMING_FIELDS:
        assert field in report['steps'][0]
        assert field not in json.dumps(kept)
    expected = [
        {k: v for k, v in step.items() if k not in TIMING_FIELDS}
        for step in report['steps']
    ]
    assert kept['steps'] == expected
    report['steps'][0]['forget_score'] += 1e-12
    assert comparable(report) != kept


def test_a_task_of_another_kind(tmp_path):
    """Nothing in the report is about detection but its pictures."""
    make_work_dir(tmp_path, metric='top1', task='classification')
    report = write_report(tmp_path)
    assert report['pretrained']['metric'] == 'top1'
    text = (tmp_path / 'report.md').read_text()
    assert 'Acc_f' in text and 'AP' not in text
    assert not (tmp_path / 'report' / 'pictures.png').exists()


def test_scores_of_unknown_tasks_keep_their_name():
    assert name_of_score('mAP') == 'AP'
    assert name_of_score('top1') == 'Acc'
    assert name_of_score('mIoU') == 'mIoU'


def test_method_without_groups(tmp_path):
    make_work_dir(tmp_path, num_groups=0)
    write_report(tmp_path, pictures=False)
    assert [p.name for p in (tmp_path / 'report').iterdir()] == ['scores.png']
    assert '0 of 0' not in (tmp_path / 'report.md').read_text()


def test_no_mistake_in_pictures_costs_the_report(tmp_path, monkeypatch):
    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr('gslora_mm.reports.pictures.draw_pictures', fail)
    work_dir = make_work_dir(tmp_path)
    WorkDir(work_dir).pretrained.config.write_text('lr = np.float64(1)')
    write_report(work_dir, pictures=True)
    assert (tmp_path / 'report.md').is_file()


def test_missing_pictures_do_not_cost_the_report(tmp_path):
    """The config of the stock model and its data may be gone."""
    write_report(make_work_dir(tmp_path), pictures=True)
    text = (tmp_path / 'report.md').read_text()
    assert 'pictures.png' not in text and 'scores.png' in text


@pytest.mark.parametrize('name', ['sequence.json', 'pretrained/metrics.json'])
def test_not_a_work_dir(tmp_path, name):
    make_work_dir(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match='work_dir.*has no .*json'):
        build_report(tmp_path)


def test_result_of_another_sequence(tmp_path):
    make_work_dir(tmp_path, requests=[['zebra'], ['car']])
    sequence = load_json(tmp_path / 'sequence.json')
    sequence['steps'][0] = ['dog']
    save_json(sequence, tmp_path / 'sequence.json')
    with pytest.raises(ConfigError, match='step_01.*zebra.*forgets.*dog'):
        build_report(tmp_path)


def test_a_task_without_a_short_name_of_its_score(tmp_path, monkeypatch):
    class Task(BaseTask):
        name, metric = 'own', 'mIoU'

    monkeypatch.setitem(TASKS.module_dict, 'OwnTask', Task)
    assert name_of_score('mIoU') == 'mIoU'
    make_work_dir(tmp_path, metric='mIoU', task='own')
    write_report(tmp_path, pictures=False)
    assert 'mIoU_f' in (tmp_path / 'report.md').read_text()


def test_modules_of_a_user_are_imported_first(tmp_path, monkeypatch):
    """What another process runs later knows no task of a user."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'own_report_task.py').write_text("""
from gslora_mm.registry import TASKS
from gslora_mm.tasks import BaseTask

@TASKS.register_module()
class OwnReportTask(BaseTask):
    name, metric, score_name = 'own', 'mIoU', 'IoU'
""")
    work_dir = make_work_dir(tmp_path / 'run', metric='mIoU', task='own')
    config = work_dir / 'pretrained' / 'config.py'
    config.write_text("custom_imports = dict(imports=['own_report_task'])")
    write_report(work_dir, pictures=False)
    assert 'score IoU (mIoU)' in (work_dir / 'report.md').read_text()
    sys.modules.pop('own_report_task')
    (tmp_path / 'own_report_task.py').unlink()
    TASKS.module_dict.pop('OwnReportTask')
    write_report(work_dir)
    assert 'score mIoU' in (work_dir / 'report.md').read_text()
