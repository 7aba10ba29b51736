"""From a few names to a sequence config."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from gslora_mm.sequence import check_sequence, write_request
from gslora_mm.sequence.overview import overview
from gslora_mm.sequence.request import complete_name
from gslora_mm.utils import ConfigError
from tests.strangers import inside, make_classifier, make_detector

ROOT = Path(__file__).parents[2]
CLASSES = ('person', 'car', 'cart', 'traffic light', 'Bus', '7')
CHECKPOINT = 'work_dirs/my_training/epoch_1.pth'


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    return make_detector(tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp('classifier'))


@pytest.fixture
def write(classifier, tmp_path):
    """Write a request about the classifier; returns the text."""

    def write(*forget, config='my_vit.py', **settings):
        settings.setdefault('work_dir', tmp_path / 'run')
        with inside(classifier):
            return write_request(
                config, CHECKPOINT, forget, **settings
            ).read_text()

    return write


def bases_of(text):
    """Names of the configs of this package that a config inherits from."""
    return re.findall(r"_base_/(\w+/\w+)\.py',", text)


def without_paths(text, folder):
    """The same text on every machine."""
    text = re.sub(
        r"'(gslora_mm::|/.*?/configs/)_base_", "'PACKAGE/_base_", text
    )
    return text.replace(str(folder), 'HOME')


# Names ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('car', 'car'),  # not short for cart
        ('CART', 'cart'),
        ('bus', 'Bus'),
        ('p', 'person'),
        ('traffic_light', 'traffic light'),
        ('Traffic-L', 'traffic light'),
        ('0', 'person'),
        (4, 'Bus'),
        ('7', '7'),  # a name before a label
    ],
)
def test_names_are_completed(name, meant):
    assert complete_name(name, CLASSES) == meant


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('ca', "'ca': may be each of car, cart"),
        ('persn', "Did you mean 'person'?"),
        ('', "unknown name ''"),
        (6, r"labels are 0 \('person'\) to 5 \('7'\)"),
        ('-1', 'labels are 0'),
    ],
)
def test_names_that_mean_no_class(name, message):
    with pytest.raises(ConfigError, match=message):
        complete_name(name, CLASSES)


# The config ----------------------------------------------------------------


def test_what_is_written_for_a_detector(detector, tmp_path):
    """Also: a config may be given relative to the folder of the user."""
    with inside(detector):
        path = write_request(
            'my_detector.py',
            CHECKPOINT,
            [['pers'], ['car', 2]],
            method='GSLoRA',
            share=0.5,
            options={'schedule.max_iters': 7, 'randomness.seed': 3},
        )
        assert path == Path('work_dirs/my_detector_forget/forget.py')
        text = path.read_text()
        cfg = Config.fromfile(path)
        plan = check_sequence(cfg).plan
    assert without_paths(text, detector) == (
        """\
# Forget person; then car, bus. To be run by tools/train.py.
_base_ = [
    'HOME/my_detector.py',
    'PACKAGE/_base_/methods/gs_lora.py',
    'PACKAGE/_base_/schedules/auto.py',
    'PACKAGE/_base_/tasks/matched_queries.py',
]
forgetting = dict(
    pretrained='HOME/work_dirs/my_training/epoch_1.pth',
    steps=[['person'], ['car', 'bus']],
    retain_share=0.5,
    forget_share=0.5)
work_dir = 'work_dirs/my_detector_forget'
schedule = dict(max_iters=7)
randomness = dict(seed=3)
"""
    )
    assert plan.steps == (('person',), ('car', 'bus'))
    assert cfg.schedule.max_iters == 7


def test_what_is_written_for_the_level_weights_of_a_detector(
    detector, tmp_path
):
    """As long as half of its training, or as somebody says."""

    def written(folder, **options):
        return write_request(
            detector / 'my_detector.py',
            CHECKPOINT,
            [['person']],
            level='weights',
            work_dir=tmp_path / folder,
            options=options,
        )

    with inside(detector):
        path = written('run')
        assert bases_of(path.read_text()) == [
            'methods/noise_and_distil', 'schedules/weights'
        ]  # fmt: skip
        cfg = Config.fromfile(path)
        checked = check_sequence(cfg)
        found = checked.found[0]['retain']
        wanted = cfg.train_cfg.max_epochs / 2 * -(-found // 3)
        assert checked.max_iters == [pytest.approx(wanted, abs=1)]
        cfg = Config.fromfile(written('short', **{'schedule.max_iters': 2}))
        assert check_sequence(cfg).max_iters == [2]


@pytest.mark.parametrize(
    ('settings', 'bases'),
    [
        ({}, ['methods/masked_distillation', 'schedules/auto']),
        (
            dict(level='behaviour', shots=2),
            ['methods/masked_distillation', 'schedules/auto'],
        ),
        (
            dict(method='gs-lora-pp'),
            ['methods/gs_lora_pp', 'schedules/auto'],
        ),
        (  # trains all weights
            dict(method='der'),
            ['methods/der', 'schedules/auto'],
        ),
        (  # sees nothing of what is to be forgotten
            dict(method='fine_tune'),
            ['methods/fine_tune', 'schedules/mini_classifier_full'],
        ),
        (  # learns first
            dict(method='knowledge_swapping'),
            ['methods/knowledge_swapping', 'schedules/mini_classifier'],
        ),
        (  # nothing is there to be watched
            dict(options={'forgetting.forget_share': 0}),
            ['methods/masked_distillation', 'schedules/mini_classifier'],
        ),
        (
            dict(level='features'),
            ['methods/counterfactual', 'schedules/features'],
        ),
        (
            dict(level='weights'),
            ['methods/noise_and_distil', 'schedules/weights_classifier'],
        ),
    ],
)
def test_bases_of_a_classifier(write, settings, bases):
    text = write(['red'], **settings)
    assert bases_of(text) == bases
    assert ('shots=2' in text) == ('shots' in settings)


def test_entries_of_the_users_config_are_kept(write, classifier):
    (classifier / 'own.py').write_text(
        "_base_ = './my_vit.py'\n"
        'schedule = dict(max_iters=5, batch_size=4, optim_wrapper=dict('
        "type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)))\n"
        "method = dict(type='gslora_mm.DELETE')\n"
    )
    text = write(['red'], config='own.py')
    assert bases_of(text) == []
    with pytest.raises(ConfigError, match='has an entry method'):
        write(['red'], config='own.py', method='der')


def test_a_validation_set_that_is_called_a_test_set(
    write, classifier, tmp_path
):
    text = (classifier / 'my_vit.py').read_text()
    (classifier / 'tested.py').write_text(
        text.replace('val_dataloader', 'test_dataloader').replace(
            'val_evaluator', 'test_evaluator'
        )
    )
    assert 'val_evaluator = _base_.test_evaluator' in write(
        ['red'], config='tested.py'
    )
    cfg = Config.fromfile(tmp_path / 'run/forget.py')
    with inside(classifier):
        assert check_sequence(cfg).num_validation == 12


def test_single_items_of_lists_can_be_set(write, tmp_path):
    key = 'train_dataloader.dataset.pipeline.1.prob'
    write(['red'], options={key: 0.25, 'forgetting.seed': 4})
    cfg = Config.fromfile(tmp_path / 'run/forget.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert [step.type for step in pipeline] == [
        'LoadImageFromFile', 'RandomFlip', 'PackInputs'
    ]  # fmt: skip
    assert pipeline[1].prob == 0.25
    assert cfg.forgetting.seed == 4


@pytest.mark.parametrize(
    ('forget', 'settings', 'message'),
    [
        ([['rot']], {}, r'forget\[0\]: unknown name'),
        ([['red'], ['RED']], {}, r"forget\[1\]: it names 'red', which is al"),
        ([['red', 'blue'], [1, 3]], {}, 'forget: it forgets all 4 classes'),
        ([['red'], [4]], {}, r'forget\[1\] = 4: no class'),
        ([['red'], []], {}, r'forget\[1\] = \[\]: step 2 forgets nothing'),
        ([], {}, r'forget = \[\]'),
        ([['red']], dict(share=0.1, shots=2), 'share = 0.1: shots is given'),
        ([['red']], dict(level='behaviour', method='der'), 'method = '),
        ([['red']], dict(method='gs_lroa'), "Did you mean 'gs_lora"),
        ([['red']], dict(level='featres'), "Did you mean 'features'"),
        ([['red']], dict(config='no.py'), 'config = .*no such file'),
        ([['red']], dict(config='vit'), 'must be a config file'),
        ([['red']], dict(options={'schedule.iters': 3}), 'no such entry'),
    ],
)
def test_what_is_refused(write, tmp_path, forget, settings, message):
    with pytest.raises(ConfigError, match=message):
        write(*forget, **settings)
    assert not (tmp_path / 'run').exists()


def test_a_sequence_is_no_config_of_a_model(write, tmp_path):
    write(['red'])
    with pytest.raises(ConfigError, match='it says itself what to forget'):
        write(['red'], config=tmp_path / 'run/forget.py')


def test_advice_for_configs_of_the_new_style(write, classifier):
    (classifier / 'new.py').write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n'
        '    from .text import *\n'
    )
    plain = Config.fromfile(classifier / 'my_vit.py')
    (classifier / 'text.py').write_text(plain.pretty_text)
    with pytest.raises(ConfigError) as caught:
        write(['red'], config='new.py')
    command = re.search('python -c "(.*)"', str(caught.value))[1]
    with inside(classifier):
        exec(command)
    assert "steps=[['red']]" in write(['red'], config='new_plain.py')


def test_another_request_is_not_written_over_a_run(write, tmp_path):
    before = write(['red'])
    assert write(['blue']) != before  # nothing has run there yet
    for name in ('sequence.json', 'pretrained/metrics.json'):
        path = tmp_path / 'run' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{}')
    assert 'blue' in write(['blue'])
    with pytest.raises(ConfigError, match='results of another request'):
        write(['red'])
    assert 'blue' in (tmp_path / 'run/forget.py').read_text()


# What it will do -----------------------------------------------------------


def test_the_overview_says_what_will_be_done(write, classifier, tmp_path):
    write(['red'], ['blue', 'green'], shots=2)
    cfg = Config.fromfile(tmp_path / 'run/forget.py')
    with inside(classifier):
        quiet, timed = check_sequence(cfg), check_sequence(cfg, timed=True)
    lines = overview(quiet)
    assert lines[1:] == [
        'classification by ImageClassifier, forgetting by '
        'MaskedDistillation: a LoRA of rank 8 on ffn is trained',
        '  step 1: forget red (2 of 8 forget and 6 of 24 retain images, at '
        'most 300 iterations)',
        '  step 2: forget blue, green (4 of 16 forget and 2 of 8 retain '
        'images, at most 300 iterations)',
    ]
    assert overview(timed)[:-1] == lines
    # Real time passes: 12 images in three passes take less than training.
    assert 0 < timed.image_seconds < 5
    assert re.match(
        r'roughly \w+ \w+ on this machine: \w+ \w+ of training, \w+ \w+ to '
        'score 12 images', overview(timed)[-1]
    )  # fmt: skip
