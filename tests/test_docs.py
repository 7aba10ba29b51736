"""The documentation tells the truth: links, commands, configs, tables."""

import ast
import dataclasses
import importlib.util
import inspect
import re
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gslora_mm.datasets import ClassOrder
from gslora_mm.entries import (
    ForgettingEntry,
    MethodEntry,
    ScheduleEntry,
    read_entries,
)
from gslora_mm.entries.cache import CacheEntry
from gslora_mm.lora import inject_lora
from gslora_mm.methods import GSLoRA, GSLoRAPP
from gslora_mm.registry import HOOKS, METHODS, MODELS, TASKS
from gslora_mm.tasks import DetectionTask, HalfBatch
from gslora_mm.training.hooks import AdapterEMAHook, ForgettingEarlyStopHook
from gslora_mm.utils import ConfigError

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
PAGES = sorted(
    [
        ROOT / 'README.md',
        ROOT / 'CHANGELOG.md',
        ROOT / 'CONTRIBUTING.md',
        *(ROOT / 'docs').rglob('*.md'),
        *CONFIGS.rglob('*.md'),
    ]
)
#: Files that the pages tell the reader to make.
EXAMPLES = (
    'configs/my_detector/',
    'configs/my_vit/',
    'capped_ascent',
    'capped-ascent',
)
REQUIRED = object()
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@cache
def text_of(page: Path) -> str:
    """A page without its comments (places that wait for results)."""
    text = page.read_text(encoding='utf-8')
    return re.sub(r'<!--.*?-->', '', text, flags=re.DOTALL)


def prose_of(page):
    return FENCE.sub('', text_of(page))


def blocks(language):
    """All code blocks of a language, as test parameters."""
    return [
        pytest.param(code, id=f'{page.relative_to(ROOT)}-{number}')
        for page in PAGES
        for number, (found, code) in enumerate(FENCE.findall(text_of(page)))
        if found == language
    ]


def per_page(function):
    names = [str(page.relative_to(ROOT)) for page in PAGES]
    return pytest.mark.parametrize('page', PAGES, ids=names)(function)


# Links and names ----------------------------------------------------------


def anchors(page):
    """Anchors of a page's headings, as GitHub makes them."""
    return {
        re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        for heading in re.findall(r'^#+ (.+)$', prose_of(page), re.MULTILINE)
    }


@per_page
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', prose_of(page)):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@per_page
def test_files_that_are_named_exist(page):
    names = re.findall(
        r'`((?:gslora_mm|configs|tools|docs|tests|requirements)/[\w./-]*)`',
        prose_of(page),
    )
    for name in names:
        if not any(example in name for example in EXAMPLES):
            assert (ROOT / name).exists(), name


@per_page
def test_pages_are_plain_text_of_a_readable_width(page):
    assert '\t' not in text_of(page)
    for line in prose_of(page).splitlines():
        assert len(line) <= 100 or line.startswith('|') or '](' in line, line


def test_quoted_messages_are_those_of_the_code():
    """Each message that is explained is part of a string somewhere."""
    sources = [*(ROOT / 'gslora_mm').rglob('*.py')]
    sources.append(ROOT / 'requirements' / 'build_mmcv.py')
    strings = [
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding='utf-8')))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    strings += re.findall(r'"([^"]+)"', (ROOT / 'Makefile').read_text())
    spec = importlib.util.find_spec('mmengine.config.config')
    strings.append(Path(spec.origin).read_text(encoding='utf-8'))
    strings = [' '.join(string.split()) for string in strings]
    for name, least in dict(faq=12, errors=25).items():
        page = prose_of(ROOT / f'docs/en/{name}.md')
        starts = r'^\*\*`.*?\*\*(?:, \*\*.*?\*\*)*'
        quotes = [
            quote
            for start in re.findall(starts, page, re.M)
            for quote in re.findall('`([^`]+)`', start)
        ]
        assert len(quotes) > least
        for quote in quotes:
            assert any(quote in string for string in strings), quote


# Commands -----------------------------------------------------------------


def commands(code):
    """Words of each command, comments and variables left out."""
    code = code.replace('\\\n', ' ')
    for line in code.splitlines():
        line = re.sub(r'(^|\s)#.*', '', line)
        for command in re.split(r'&&|;|\|', line):
            words = [word.strip('\'"') for word in command.split()]
            while words and re.fullmatch(r'[A-Z_]+=\S*', words[0]):
                words.pop(0)
            if words:
                yield words


@pytest.mark.parametrize('code', blocks('bash'))
def test_commands_name_what_exists(code):
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
    variables = re.findall(r'^(\w+) \?= ', (ROOT / 'Makefile').read_text(),
                           re.M)  # fmt: skip
    for words in commands(code):
        if words[0] == 'make':
            for word in words[1:]:
                name, _, value = word.partition('=')
                assert name in (variables if value else targets), word
        for word in words:
            if re.match(r'(tools|configs)/', word) and '$' not in word:
                known = (ROOT / word).exists()
                assert (
                    known
                    or word.startswith(EXAMPLES)
                    or any(example in word for example in EXAMPLES)
                ), word
        if words[:2] == ['python', '-m'] and words[2].startswith('gslora_mm'):
            assert importlib.util.find_spec(words[2])
        check_flags(words)


def check_flags(words):
    """The flags of our tools are flags that they know."""
    script = next((w for w in words if w.startswith('tools/')), None)
    if script is None:
        return
    if script.endswith('.sh'):
        script = f'tools/{script.rpartition("_")[2].replace(".sh", ".py")}'
    known = (ROOT / script).read_text(encoding='utf-8')
    for word in words:
        if word.startswith('--'):
            negated = (
                f"'{word.replace('--no-', '--')}',\n"
                '        action=argparse.BooleanOptionalAction'
            )
            assert f"'{word}'" in known or negated in known, word


# Python -------------------------------------------------------------------


def is_config(code):
    return all(isinstance(n, ast.Assign) for n in ast.parse(code).body)


@pytest.mark.parametrize('code', blocks('python'))
def test_python_imports_what_exists(code):
    compile(code, 'docs', 'exec')
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module.startswith('gslora_mm'):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), alias.name
            else:
                top = node.module.partition('.')[0]
                assert importlib.util.find_spec(top), node.module


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    """A copy of ``configs/`` with models of a user in it."""
    folder = tmp_path_factory.mktemp('docs') / 'configs'
    shutil.copytree(CONFIGS, folder)
    (folder / 'my_detector').mkdir()
    (folder / 'my_detector' / 'my_detector.py').write_text(
        "_base_ = 'mmdet::deformable_detr/"
        "deformable-detr_r50_16xb2-50e_coco.py'\n"
    )
    (folder / 'my_vit').mkdir()
    (folder / 'my_vit' / 'my_vit.py').write_text(
        "_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'\n"
    )
    return folder


@pytest.fixture
def example():
    """The method of adding_a_method.md, as long as a test lasts."""
    page = text_of(ROOT / 'docs/en/adding_a_method.md')
    code = next(c for _, c in FENCE.findall(page) if 'class ' in c)
    namespace: dict = {'__name__': 'capped_ascent'}
    METHODS.import_from_location()
    exec(compile(code, 'adding_a_method.md', 'exec'), namespace)
    yield namespace['CappedAscent']
    METHODS.module_dict.pop('CappedAscent')


@pytest.mark.parametrize(
    'code',
    [
        block
        for block in blocks('python')
        if is_config(block.values[0])
        # Run as a whole by test_adding_a_task.py.
        and 'adding_a_task' not in block.id
    ],
)
def test_configs_are_valid(code, configs, example):
    """Those that name their file are whole, the others a part of one."""
    named = re.match(r'# configs/(\S+\.py)\n', code)
    if named:
        path = configs / named[1]
        path.write_text(code)
        cfg = Config.fromfile(path)
        if 'forgetting' in cfg:
            read_entries(cfg)
        if cfg.get('model', {}).get('type') == 'gslora_mm.AdaptedModel':
            init_default_scope(cfg.default_scope)
            assert MODELS.build(cfg.model).groups
    else:
        # Not imported here: the reader's own.
        code = re.sub(r'^custom_imports = .*\n', '', code)
        cfg = Config.fromstring(code, '.py')
    check_sequence_entries(cfg, complete=bool(named))


def check_sequence_entries(cfg, complete):
    """Read and build what is there; a fragment lacks what is required."""
    cfg = cfg.to_dict()
    forgetting = cfg.get('forgetting', {})
    if forgetting:
        lacking = {} if complete else dict(pretrained='a.pth', steps=[])
        ForgettingEntry.read({**lacking, **forgetting})
    if 'method' in cfg:
        steps = forgetting.get('steps', [])
        for step in range(1, len(steps) + 1):
            METHODS.build(
                MethodEntry(cfg['method']).for_step(step, len(steps))
            )
    if cfg.get('adapter'):
        known = {*inspect.signature(inject_lora).parameters, 'group_by'}
        assert set(cfg['adapter']) <= known
    if 'schedule' in cfg:
        schedule = cfg['schedule']
        if schedule.get('batch_size') == 'own':  # read with the loader's
            schedule['batch_size'] = 2
        if not complete:
            schedule = {'batch_size': 2, 'optim_wrapper': {}, **schedule}
            if 'max_epochs' not in schedule:
                schedule.setdefault('max_iters', 1)
        for hook in ScheduleEntry.read(schedule).hooks:
            HOOKS.build(hook)
    if 'task' in cfg:
        TASKS.build(cfg['task'])


# Tables of configs.md -----------------------------------------------------


def documented(heading):
    """Entries and defaults of the first table under a heading or a line."""
    text = text_of(ROOT / 'docs/en/configs.md')
    table = text[text.index(f'\n{heading}') + 1 :]
    table = table[table.index('\n| entry ') :].partition('\n\n')[0]
    entries = {}
    for row in table.strip().splitlines()[2:]:
        name, _, default, _ = [c.strip() for c in row.split('|')[1:5]]
        entries[name.strip('`')] = (
            REQUIRED
            if default == 'required'
            else ast.literal_eval(default.strip('`'))
        )
    return entries


def defaults_of(function):
    return {
        name: REQUIRED if p.default is p.empty else p.default
        for name, p in inspect.signature(function).parameters.items()
    }


def entries_of(cls):
    """Keys of an entry and their defaults."""

    def default(each):
        if each.default_factory is not dataclasses.MISSING:
            return each.default_factory()
        missing = each.default is dataclasses.MISSING
        return REQUIRED if missing else each.default

    return {each.name: default(each) for each in dataclasses.fields(cls)}


def test_entries_of_forgetting():
    assert documented('## forgetting') == entries_of(ForgettingEntry)


def test_entries_of_schedule():
    assert documented('## schedule') == entries_of(ScheduleEntry)


def test_entries_of_the_cache():
    assert documented('### schedule.cache') == entries_of(CacheEntry)


def test_entries_of_the_adapter():
    expected = {
        **defaults_of(inject_lora),
        'exclude': DetectionTask.trunk,  # what ForgettingModel fills in
        'group_by': 'block',
    }
    del expected['model']
    assert documented('## adapter') == expected


@pytest.mark.parametrize(
    'heading, kind',
    [
        ('### ClassOrder', ClassOrder),
        ('### gslora_mm.GSLoRA', GSLoRA),
        ('### gslora_mm.GSLoRAPP', GSLoRAPP),
        ('### gslora_mm.DetectionTask', DetectionTask),
        ('`gslora_mm.AdapterEMAHook`', AdapterEMAHook),
        ('`gslora_mm.ForgettingEarlyStopHook`', ForgettingEarlyStopHook),
    ],
)
def test_arguments_in_the_tables(heading, kind):
    assert documented(heading) == defaults_of(kind)


@pytest.mark.parametrize('method', [GSLoRA, GSLoRAPP])
def test_settings_per_step(method):
    text = text_of(ROOT / 'docs/en/configs.md')
    heading = f'\n### gslora_mm.{method.__name__}\n'
    section = text.partition(heading)[2].partition('\n##')[0]
    rows = re.findall(
        r'^\| `(\w+)` \| \w+, per step \|', section, re.MULTILINE
    )
    assert sorted(rows) == sorted(method.per_step)


def test_every_task_is_documented():
    text = text_of(ROOT / 'docs/en/configs.md')
    TASKS.import_from_location()
    for name in TASKS.module_dict:
        assert f'### gslora_mm.{name}\n' in text


def own_methods():
    """Names of this package's methods, not of examples and tests."""
    METHODS.import_from_location()
    return {
        name
        for name, cls in METHODS.module_dict.items()
        if cls.__module__.startswith('gslora_mm.')
    }


def test_every_method_is_in_the_table_with_its_config():
    text = text_of(ROOT / 'docs/en/methods.md')
    rows = re.findall(r'^\| `(\w+)` \| `(\w+\.py)` \| (\w+) ', text, re.M)
    assert {name for name, *_ in rows} == own_methods()
    for name, file, data in rows:
        cfg = Config.fromfile(CONFIGS / '_base_/methods' / file)
        assert cfg.method.type == f'gslora_mm.{name}'
        METHODS.build(cfg.method.to_dict())
        needs = METHODS.get(name).needs
        words = {0: 'any', 2: 'both'}
        assert data == words.get(len(needs), ''.join(needs))


def test_every_method_has_a_base_config():
    files = (CONFIGS / '_base_/methods').glob('*.py')
    types = {Config.fromfile(file).method.type for file in files}
    assert types == {f'gslora_mm.{name}' for name in own_methods()}


# The example of adding_a_method.md ----------------------------------------


class Half(HalfBatch):
    """A half batch with given losses."""

    loss_cls = loss_rest = features = labels = logits = None
    seen_by = relabelled = None

    def __init__(self, role, loss_cls, loss_rest):
        super().__init__(role, num_samples=2)
        self.loss_cls = torch.tensor(loss_cls, requires_grad=True)
        self.loss_rest = torch.tensor(loss_rest, requires_grad=True)


def test_the_example_method_works(example):
    method = METHODS.build(
        dict(type='gslora_mm.CappedAscent', beta=0.2, max_norm=1.0)
    )
    group = [torch.nn.Parameter(torch.tensor([3.0, 4.0])),
             torch.nn.Parameter(torch.zeros(2, 2))]  # fmt: skip
    small = [torch.nn.Parameter(torch.tensor([0.5]))]
    method.setup(SimpleNamespace(groups=dict(a=group, b=small)))

    forget, retain = Half('forget', 1.5, 0.7), Half('retain', 0.4, 0.2)
    losses = {}
    for part in method.losses(forget, retain):
        losses.update(part)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    assert total.item() == pytest.approx(0.6 - 0.2 * 1.5)
    assert forget.loss_cls.grad == pytest.approx(-0.2)
    assert retain.loss_cls.grad == retain.loss_rest.grad == 1

    method.after_update(torch.optim.SGD([*group, *small], lr=0.1))
    assert group[0].tolist() == pytest.approx([0.6, 0.8])
    assert small[0].item() == 0.5


def test_the_example_method_checks_its_settings(example):
    with pytest.raises(ConfigError, match='method.beta = -1'):
        METHODS.build(dict(type='CappedAscent', beta=-1))
    with pytest.raises(ConfigError, match='adapter = None'):
        example().setup(SimpleNamespace(groups={}))


# Metafiles ----------------------------------------------------------------

METAFILES = sorted(CONFIGS.rglob('metafile.yml'))
SUITES = ('ablations', 'benchmarks')


@pytest.mark.parametrize('path', METAFILES, ids=lambda p: p.parent.name)
def test_metafiles(path):
    meta = yaml.safe_load(path.read_text(encoding='utf-8'))
    collections = {collection['Name'] for collection in meta['Collections']}
    for collection in meta['Collections']:
        assert (ROOT / collection['README']).is_file()
    for model in meta['Models']:
        config = ROOT / model['Config']
        assert config.is_file() and config.stem == model['Name']
        assert model['In Collection'] in collections
        assert model['Metadata']


def test_every_config_has_its_place():
    """In the metafile and in the README of its folder."""
    listed = {
        model['Config']
        for path in METAFILES
        for model in yaml.safe_load(path.read_text())['Models']
    }
    for path in CONFIGS.rglob('*.py'):
        # Suites are no models.
        if {'_base_', *SUITES} & set(path.parts):
            continue
        assert str(path.relative_to(ROOT)) in listed
        assert f'](./{path.name})' in text_of(path.parent / 'README.md')


def test_the_model_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    metafiles = {str(path.relative_to(ROOT)) for path in METAFILES}
    assert set(index['Import']) == metafiles
