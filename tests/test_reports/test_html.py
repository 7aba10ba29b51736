import base64
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import pytest

from gslora_mm.reports import report as module
from gslora_mm.reports import write_report
from gslora_mm.utils import load_json, save_json
from tests.audit_files import make_audit, write_audit
from tests.work_dirs import CLASSES, make_work_dir

ODD = ['<b>&"', "it's", '</script>', '{{ 1 }}', 'a -> b', 'zebra']
VOID = {'meta', 'img', 'br'}
CHROMIUM = shutil.which('chromium')


class Page(HTMLParser):
    """What a page is made of; fails where tags do not match.

    Attributes:
        attributes: Tag, name and value of each attribute.
        text: By tag that is open around it.
        tables: Cells by table and row.
    """

    def __init__(self, path):
        super().__init__()
        self.open, self.attributes, self.tables = [], [], []
        self.pieces = []
        self.feed(path.read_text(encoding='utf-8'))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *each) for each in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'table':
            self.tables.append([])
        if tag == 'tr':
            self.tables[-1].append([])
        if tag in ('td', 'th'):
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {'script', 'style'} & {*self.open}:
            self.pieces.append(data)
        if {'td', 'th'} & {*self.open}:
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return ' '.join(''.join(self.pieces).split())

    def table(self, first):
        """The rows of the table whose first title this is."""
        (rows,) = [t[1:] for t in self.tables if t[0][0] == first]
        return rows

    @property
    def images(self):
        return [value for tag, _, value in self.attributes if tag == 'img']


def write(folder, **kwargs):
    write_report(folder, pictures=False, **kwargs)
    return Page(folder / 'report.html')


def test_nothing_comes_from_elsewhere(tmp_path):
    page = write(make_work_dir(tmp_path))
    source = (tmp_path / 'report.html').read_text()
    source = re.sub('base64,[^"]*', '', source)
    assert not re.search(r'https?:|//[a-z]|url\(|@import', source)
    names = {(tag, name) for tag, name, _ in page.attributes}
    assert not {('script', 'src'), ('link', 'href'), ('a', 'href')} & names
    sources = [v for tag, name, v in page.attributes if name == 'src']
    figures = [
        base64.b64encode(path.read_bytes()).decode()
        for path in (tmp_path / 'report').iterdir()
    ]
    assert len(figures) == 2
    assert sorted(sources) == sorted(
        f'data:image/png;base64,{figure}' for figure in figures
    )
    policy = dict(
        (name, value)
        for tag, name, value in page.attributes
        if tag == 'meta' and name == 'content'
    )['content']
    assert "default-src 'none'" in policy


def test_pictures_are_inside_or_said_to_be_missing(tmp_path, monkeypatch):
    make_work_dir(tmp_path)
    assert 'There are no before-and-after pictures' in write(tmp_path).text
    png = b'\x89PNG picture'

    def draw(run, report):
        run.figure('pictures').write_bytes(png)
        return True

    monkeypatch.setattr(module, '_draw_pictures', draw)
    write_report(tmp_path)
    page = Page(tmp_path / 'report.html')
    assert 'There are no before-and-after pictures' not in page.text
    data = base64.b64encode(png).decode()
    assert f'data:image/png;base64,{data}' in page.images
    assert 'report/pictures.png' in page.text  # to be deleted


def test_tables_are_those_of_the_markdown(tmp_path):
    page = write(make_work_dir(tmp_path))
    text = (tmp_path / 'report.md').read_text()
    scores, worst, *_ = [t for t in page.tables if t[0][0] == 'Step']
    for row in [*scores, *worst]:
        cells = [re.escape(cell.replace(' → ', ' -> ')) for cell in row]
        assert re.search(r'\| +' + r' +\| +'.join(cells) + r' +\|', text)
    # All rows of a table have as many cells as its head.
    for table in page.tables:
        assert len({len(row) for row in table}) == 1


def test_settings_that_were_found_are_there(tmp_path):
    file = make_work_dir(tmp_path) / 'step_01' / 'result.json'
    course = dict(phase='repair', lr=0.0123, weight=2, start=40, since=80)
    found = dict(settings=dict(bound=4.5), course=[course | dict(kept=0.85)])
    save_json(load_json(file) | dict(found=dict(AutoScheduleHook=found)), file)
    page = write(tmp_path)
    assert ['1', '0.0123', 'x 2', '4.5', '40', '80', '85%'] in [
        row for table in page.tables for row in table
    ]


def test_each_class_has_its_row(tmp_path):
    make_work_dir(tmp_path, finished=1)
    rows = {row[0].strip(): row[1:] for row in write(tmp_path).table('Class')}
    assert [*rows] == CLASSES
    assert rows['dog'][0] == 'forgotten at step 1'
    assert rows['car'][0] == 'to be forgotten at step 2'
    assert rows['cat'][0] == 'retained'
    report = load_json(tmp_path / 'report.json')
    before = report['pretrained']['per_class']['cat']
    now = report['steps'][0]['per_class']['cat']
    assert rows['cat'][1:] == [
        f'{100 * before:.1f}',
        f'{100 * now:.1f}',
        f'{100 * (now - before):+.1f}',
    ]


def test_classes_without_a_score_or_replay_data(tmp_path):
    make_work_dir(tmp_path, finished=1)
    path = tmp_path / 'step_01' / 'result.json'
    result = load_json(path)
    result['missing'] = ['cat']
    result['per_class']['zebra'] = None
    save_json(result, path)
    rows = {row[0]: row[1:] for row in write(tmp_path).table('Class')}
    assert rows['cat'][0] == 'retained without replay data'
    assert rows['zebra'][2:] == ['-', '-']


@pytest.mark.parametrize('finished', [0, 2])
def test_odd_names_are_text(tmp_path, finished):
    make_work_dir(
        tmp_path,
        requests=[ODD[:2], ODD[2:5]],
        classes=ODD,
        finished=finished,
    )
    write_audit(tmp_path, make_audit(2, ODD))
    page = write(tmp_path)
    assert [row[0] for row in page.table('Class')] == [
        name.replace(' -> ', ' → ') for name in ODD
    ]
    source = (tmp_path / 'report.html').read_text()
    assert '<b>' not in source and source.count('</script>') == 1
    assert '<b>&", it\'s' in page.text
    assert 'None' not in page.text and 'nan' not in page.text


def test_without_an_audit_no_attack_was_run(tmp_path):
    text = write(make_work_dir(tmp_path)).text
    assert f'No attack was run. python tools/audit.py {tmp_path}' in text
    markdown = (tmp_path / 'report.md').read_text()
    assert 'No attack was run. `python tools/audit.py WORK_DIR`' in markdown
    assert '## Attacks' not in markdown


def test_with_audits_of_two_steps(tmp_path):
    make_work_dir(tmp_path)
    (tmp_path / 'step_02' / 'merged.pth').write_bytes(b'other weights')
    write_audit(tmp_path, [make_audit(2, ['car']), make_audit(1, ['dog'])])
    page = write(tmp_path)
    assert page.text.index('Step 1: dog') < page.text.index('Step 2: car')
    tables = [t for t in page.tables if t[0][0] == 'Setting']
    assert [row[:2][-1] for row in tables[0]] == [
        'Verdict',
        'linear probe (accuracy)', 'resisted',
        'relearning (accuracy)', 'not resisted',
        'similarity (accuracy)', 'says nothing',
    ]  # fmt: skip
    assert 'Attack membership on step 2: there are no images.' in page.text
    assert 'No attack was run' not in page.text
    assert 'The file that was attacked is not the one' in page.text
    assert 'Verdict' in (tmp_path / 'report.md').read_text()


def test_an_audit_without_control_has_no_verdict(tmp_path):
    make_work_dir(tmp_path)
    write_audit(tmp_path, make_audit(2, ['car'], retrained=0))
    page = write(tmp_path)
    rows = [row for row in page.table('Setting') if len(row) > 1]
    assert {row[1] for row in rows} == {'no control'}
    assert 'no control and no verdict' in page.text
    assert 'Resisted (' not in page.text


def test_an_audit_that_says_little(tmp_path):
    make_work_dir(tmp_path)
    attacks = [dict(name='own_attack')]
    write_audit(tmp_path, dict(step=2, classes=['car'], attacks=attacks))
    page = write(tmp_path)
    assert page.table('Setting') == [
        ['own attack'],
        ['-', 'no control', *5 * ['-']],
    ]
    assert 'SHA-256 not recorded (the file is gone)' in page.text


def test_the_level_of_a_step_is_named(tmp_path):
    make_work_dir(tmp_path)
    assert 'Level' not in write(tmp_path).text
    path = tmp_path / 'step_02' / 'result.json'
    save_json(load_json(path) | dict(level='features'), path)
    assert 'Level aimed at: features.' in write(tmp_path).text


def test_a_damaged_audit_is_told(tmp_path):
    make_work_dir(tmp_path)
    write_audit(tmp_path, dict(step='two'))
    text = write(tmp_path).text
    assert "audit.json: step = 'two': valid: int" in text
    assert 'No attack was run' not in text
    assert 'cannot be read' in (tmp_path / 'report.md').read_text()


def test_no_page_says_that_a_law_is_kept(tmp_path):
    make_work_dir(tmp_path)
    write_audit(tmp_path, make_audit(2, ['car']))
    text = write(tmp_path).text.lower()
    assert 'complian' not in text and 'certif' not in text
    assert 'signature' in text and 'request received on' in text


@pytest.mark.parametrize('name', ['render_html', 'read_evidence'])
def test_an_error_costs_neither_run_nor_report(tmp_path, monkeypatch, name):
    def fail(*args):
        raise RuntimeError('no such luck')

    monkeypatch.setattr(module, name, fail)
    write_report(make_work_dir(tmp_path), pictures=False)
    assert (tmp_path / 'report.json').exists()
    assert '## Result' in (tmp_path / 'report.md').read_text()
    assert not (tmp_path / 'report.html').exists()


def browse(path, *flags):
    """Run Chromium on a file; return what it prints."""
    return subprocess.run(
        [
            CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu',
            '--disable-quic', '--no-first-run', '--disable-sync',
            '--disable-background-networking', '--disable-component-update',
            f'--user-data-dir={path.parent / "profile"}',
            *flags, path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason='there is no chromium')
@pytest.mark.parametrize('width', [1280, 390])
def test_in_a_browser(tmp_path, width):
    """Nothing sticks out, all images are shown, and tables sort."""
    make_work_dir(tmp_path / 'run', classes=[*CLASSES, *ODD[:5]])
    write_audit(tmp_path / 'run', make_audit(2, ['car'], sha256='0' * 64))
    write(tmp_path / 'run')
    probe = """<script>
    const heads = document.querySelectorAll('.sorts th');
    const column = place => [...document.querySelectorAll('.sorts tbody tr')]
      .map(row => row.cells[place].textContent);
    const out = {
      width: innerWidth,
      wide: document.documentElement.scrollWidth > innerWidth,
      images: [...document.images].every(image => image.naturalWidth > 99),
    };
    const last = heads.length - 1;
    heads[last].firstChild.click(); out.up = column(last);
    heads[last].firstChild.click(); out.down = column(last);
    heads[0].firstChild.click(); out.names = column(0);
    out.marked = document.querySelectorAll('[aria-sort]').length;
    parent.postMessage(JSON.stringify(out), '*');
    </script>"""
    source = (tmp_path / 'run' / 'report.html').read_text()
    (tmp_path / 'page.html').write_text(
        source.replace('</body>', probe + '</body>')
    )
    # Windows of a browser are wider than a phone, frames need not be.
    frame = tmp_path / 'frame.html'
    frame.write_text(
        f'<iframe src="page.html" width="{width}"></iframe><script>'
        'onmessage = found => document.body.textContent = found.data</script>'
    )
    shown = browse(frame, '--dump-dom', '--virtual-time-budget=9000')
    found = json.loads(unescape(re.search(r'{"width.*}', shown)[0]))
    assert found['width'] == width
    assert not found['wide'] and found['images'] and found['marked'] == 1
    changes = [*map(float, found['up'])]
    assert changes == sorted(changes) and len(set(changes)) > 5
    assert [*map(float, found['down'])] == changes[::-1]
    assert len(found['names']) == 11
    assert found['names'].index('car') < found['names'].index('dog')


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason='there is no chromium')
def test_on_paper(tmp_path):
    write(make_work_dir(tmp_path / 'run'))
    paper = tmp_path / 'report.pdf'
    browse(tmp_path / 'run' / 'report.html', f'--print-to-pdf={paper}')
    content = paper.read_bytes()
    assert content.startswith(b'%PDF')
    assert 2 <= len(re.findall(rb'/Type\s*/Page\b', content)) <= 6
