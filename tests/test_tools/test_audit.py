"""tools/audit.py"""

import pytest
from mmengine.config import Config

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.utils import load_json
from tests.class_sequences import make_class_inputs, tiny_class_sequence
from tests.test_tools.helpers import load_tool


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('audit_tool')
    inputs = make_class_inputs(folder)
    cfg = tiny_class_sequence(
        inputs,
        folder / 'run',
        forgetting__steps=[['red']],
        schedule__max_iters=2,
        schedule__checkpoint_interval=2,
        # How the model is trained that never learns it.
        train_cfg=dict(by_epoch=True, max_epochs=1, _delete_=True),
        param_scheduler=[],
    )
    ForgettingSequence(cfg).run()
    return folder / 'run'


def test_writes_figures_a_table_and_the_report(work_dir, capsys):
    main = load_tool('audit').main
    main(
        [
            str(work_dir),
            '--attacks',
            'linear_probe',
            'redirection',
            '--options',
            'linear_probe.shots=2,4',
            '--seeds',
            '1,2',
        ]
    )
    found = load_json(work_dir / 'audit' / 'audit.json')
    assert found['seeds'] == [1, 2]
    shots = {each['setting'].get('shots') for each in found['attacks']}
    assert shots == {2, 4, None}
    text = (work_dir / 'audit' / 'audit.md').read_text()
    out = capsys.readouterr().out
    assert text in out and 'no control' in out
    assert str(work_dir / 'audit' / 'audit.md') in out


def test_makes_the_models_to_compare_with(work_dir, capsys):
    main = load_tool('audit').main
    arguments = [str(work_dir), '--attacks', 'redirection']
    main([*arguments, '--make-retrained', '2'])
    folder = work_dir / 'audit' / 'step_01'
    found = load_json(work_dir / 'audit' / 'audit.json')
    paths = [folder / f'retrained_{i}' / 'retrained.pth' for i in range(2)]
    assert found['retrained'] == [*map(str, paths)]
    assert 'retraining 2 of 2' in capsys.readouterr().out
    for seed, path in enumerate(paths):
        seen = Config.fromfile(next(path.parent.glob('*.py')))
        assert seen.randomness.seed == seed
        data = seen.train_dataloader.dataset
        assert 'red' not in data.classes
        assert len(data.classes) == 5
        assert data.dataset.type != data.type
    before = [path.read_bytes() for path in paths]
    assert before[0] != before[1]
    main([*arguments, '--make-retrained', '2'])
    assert 'retraining' not in capsys.readouterr().out
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--step', '2'], 'error: step = 2'),
        (['--attacks', 'probe'], "error: attacks: unknown name 'probe'"),
        (['--retrained', 'none.pth'], 'error: --retrained = .none.pth'),
    ],
)
def test_bad_requests_end_in_one_line(work_dir, arguments, message):
    main = load_tool('audit').main
    with pytest.raises(SystemExit, match=message):
        main([str(work_dir), *arguments])


@pytest.mark.parametrize(
    'arguments',
    [['--seeds', 'a'], ['--retrained', 'a', '--make-retrained', '1']],
)
def test_bad_flags(arguments, capsys):
    main = load_tool('audit').main
    with pytest.raises(SystemExit):
        main(['anywhere', *arguments])
    assert arguments[-2] in capsys.readouterr().err


def test_not_a_work_dir(tmp_path):
    main = load_tool('audit').main
    with pytest.raises(SystemExit, match='^error: work_dir'):
        main([str(tmp_path)])
