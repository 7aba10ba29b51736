"""tools/analysis_tools/linear_probe.py"""

import pytest

from gslora_mm.sequence import ForgettingSequence
from gslora_mm.utils import load_json
from tests.sequences import make_inputs, tiny_sequence
from tests.test_tools.helpers import load_tool


def test_writes_a_table_and_the_figures(tmp_path, capsys):
    main = load_tool('analysis_tools/linear_probe').main
    inputs = make_inputs(tmp_path / 'inputs')
    work_dir = tmp_path / 'run'
    cfg = tiny_sequence(
        inputs,
        work_dir,
        forgetting__steps=[['one']],
        schedule__max_iters=1,
        schedule__checkpoint_interval=1,
    )
    ForgettingSequence(cfg).run()
    capsys.readouterr()
    main([str(work_dir), '--share', '0.5', '--seed', '2'])
    result = load_json(work_dir / 'linear_probe.json')
    assert set(result['models']) == {'pre-trained', 'after step 1'}
    assert result['data']['seed'] == 2
    text = (work_dir / 'linear_probe.md').read_text()
    assert text in capsys.readouterr().out
    assert text.startswith('# Linear probe\n')

    out = tmp_path / 'elsewhere' / 'probe.json'
    arguments = ['--retrained', str(inputs / 'pretrained.pth')]
    arguments += ['--step', '1', '--share', '0.3', '--out', str(out)]
    main([str(work_dir), *arguments])
    assert 'retrained' in load_json(out)['models']
    assert out.with_suffix('.md').is_file()
    with pytest.raises(SystemExit, match='error: step = 2'):
        main([str(work_dir), '--step', '2'])


def test_not_a_work_dir(tmp_path):
    main = load_tool('analysis_tools/linear_probe').main
    with pytest.raises(SystemExit, match='^error: work_dir'):
        main([str(tmp_path)])
