import pytest

from gslora_mm.utils import ConfigError, save_json
from gslora_mm.work_dir import WorkDir, own_folder


@pytest.fixture
def work_dir(tmp_path):
    made = WorkDir(tmp_path / 'run')
    made.write_record(dict(steps=[['cat'], ['dog']]))
    return made


def finish(work_dir, step, names):
    save_json(dict(step=step, forget=names), work_dir.step(step).result)


def test_the_names_of_the_contract(tmp_path):
    work_dir = WorkDir(tmp_path)
    names = {
        str(path.relative_to(tmp_path))
        for path in (
            work_dir.record,
            work_dir.config,
            work_dir.report,
            work_dir.report_text,
            work_dir.report_page,
            work_dir.audit_json,
            work_dir.audit_text,
            work_dir.pretrained.metrics,
            work_dir.step(1).config,
            work_dir.step(1).adapter,
            work_dir.step(12).merged,
        )
    }
    assert names == {
        'sequence.json',
        'config.py',
        'report.json',
        'report.md',
        'report.html',
        'audit/audit.json',
        'audit/audit.md',
        'pretrained/metrics.json',
        'step_01/config.py',
        'step_01/adapter.safetensors',
        'step_12/merged.pth',
    }


def test_results_end_at_the_first_unfinished_step(work_dir):
    assert work_dir.read_results() == []
    finish(work_dir, 2, ['dog'])
    assert work_dir.read_results() == []
    finish(work_dir, 1, ['cat'])
    assert [each['step'] for each in work_dir.read_results()] == [1, 2]
    assert work_dir.step(1).is_finished and not work_dir.step(3).is_finished


def test_a_result_of_another_step_is_refused(work_dir):
    finish(work_dir, 1, ['dog'])
    with pytest.raises(ConfigError, match=r"step_01.*forgets \['dog'\]"):
        work_dir.read_results()


def test_a_folder_without_a_sequence_is_named(tmp_path, work_dir):
    with pytest.raises(ConfigError, match='work_dir = .*no sequence.json; va'):
        WorkDir(tmp_path).read_record()
    with pytest.raises(ConfigError, match='has no pretrained/metrics.json'):
        work_dir.read_pretrained()
    with pytest.raises(ConfigError, match='has no report.json'):
        work_dir.read_report()


def test_finished_is_what_the_report_has_all_steps_of(work_dir):
    assert not work_dir.is_finished
    save_json(dict(steps=[1], requests=[1, 2]), work_dir.report)
    assert not work_dir.is_finished
    save_json(dict(steps=[1, 2], requests=[1, 2]), work_dir.report)
    assert work_dir.is_finished
    work_dir.report.write_text('{"steps": [')
    assert not work_dir.is_finished


def test_results_behind_a_gap_are_read_if_asked_for(work_dir):
    finish(work_dir, 2, ['dog'])
    assert [each['step'] for each in work_dir.read_results(gaps=True)] == [2]
    finish(work_dir, 2, ['cat'])
    with pytest.raises(ConfigError, match=r"step_02.*forgets \['cat'\]"):
        work_dir.read_results(gaps=True)


def test_a_sequence_does_not_end_up_in_the_folder_of_a_training(
    tmp_path, monkeypatch
):
    """Which is what a config names that a training of mmdet has dumped."""
    monkeypatch.chdir(tmp_path)
    assert own_folder('here', 'mine') == 'here'
    (tmp_path / 'here').mkdir()
    assert own_folder('here', 'mine') == 'here'
    (tmp_path / 'here/last_checkpoint').touch()
    assert own_folder('here', 'mine') == 'work_dirs/mine'
    (tmp_path / 'work_dirs/mine').mkdir(parents=True)
    (tmp_path / 'work_dirs/mine/epoch_12.pth').touch()
    assert own_folder('here', 'mine') == 'work_dirs/mine_forgetting'
