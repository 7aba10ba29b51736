import pytest

from gslora_mm.entries import ForgettingEntry
from gslora_mm.sequence import ForgettingPlan
from gslora_mm.utils import ConfigError

CLASSES = ('cat', 'dog', 'car', 'bus', 'bird')


def make(settings, *args, **kwargs):
    entry = ForgettingEntry(pretrained='a.pth', **settings)
    return ForgettingPlan.make(entry, *args, **kwargs)


def plan(steps, **settings):
    return make(dict(steps=steps, **settings), CLASSES)


def test_splits_of_every_step():
    made = plan([['dog'], ['car', 'cat']], missing=['bus'])
    assert len(made) == 2
    assert made.splits(1) == dict(
        forget=['dog'],
        retain=['cat', 'car', 'bus', 'bird'],
        old=[],
        missing=['bus'],
    )
    assert made.splits(2) == dict(
        forget=['cat', 'car'],
        retain=['bus', 'bird'],
        old=['dog'],
        missing=['bus'],
    )


def test_a_missing_class_can_be_forgotten_later():
    made = plan([['dog'], ['bus']], missing=['bus'])
    assert made.splits(1)['missing'] == ['bus']
    assert made.splits(2)['missing'] == []


def test_class_order_of_the_papers():
    made = plan(
        dict(
            type='gslora_mm.ClassOrder',
            scheme='numpy',
            seed=123,
            num_steps=2,
            classes_per_step=2,
        )
    )
    names = [name for step in made.steps for name in step]
    assert len(set(names)) == 4
    assert len(made.splits(2)['retain']) == 1


def test_the_rest_is_what_no_training_image_shows():
    settings = dict(steps=[['cat']], missing='rest')
    shown = [name for name in CLASSES if name not in ('bus', 'dog')]
    made = make(settings, CLASSES, shown)
    assert made.missing == tuple(n for n in CLASSES if n in ('bus', 'dog'))
    assert set(made.missing) < set(made.splits(1)['retain'])
    everything = make(settings, CLASSES, CLASSES)
    assert everything.missing == ()


def test_a_class_order_leaves_the_rest_out():
    """As if there were no other classes: the order of the papers."""
    order = dict(scheme='python', seed=1337, num_steps=2, classes_per_step=20)
    classes = [f'class {i}' for i in range(1000)]
    shown = classes[5::10]
    forgetting = dict(steps=order, missing='rest')
    made = make(forgetting, classes, shown)
    alone = make(dict(steps=order), shown)
    assert made.steps == alone.steps
    assert len(made.missing) == 900
    assert len(made.splits(2)['retain']) == 960


def test_classes_without_images_are_named():
    with pytest.raises(ConfigError, match="missing: .* 1 classes .*'dog'"):
        make(dict(steps=[['cat']]), CLASSES, set(CLASSES) - {'dog', 'cat'})


def test_learned_classes_are_scored_apart():
    made = plan([['dog'], ['car'], ['bird']], learn=[['bird'], ['bus'], []])
    assert made.splits(1) == dict(
        forget=['dog'],
        retain=['cat', 'car'],
        old=[],
        missing=[],
        learned=['bird'],
    )
    assert made.splits(2)['retain'] == ['cat']
    assert made.splits(2)['learned'] == ['bus', 'bird']
    # Forgotten after it was learned.
    assert made.splits(3)['learned'] == ['bus']
    assert made.splits(3)['old'] == ['dog', 'car']
    assert [made.unknown(step) for step in (1, 2, 3)] == [['bus'], [], []]


def test_what_is_learned_later_is_in_no_split():
    made = plan([['dog'], ['car']], learn=[[], ['bus']])
    assert not any('bus' in names for names in made.splits(1).values())
    assert 'step_01.learned' not in made.all_splits()
    assert made.all_splits()['step_02.learned'] == ['bus']


@pytest.mark.parametrize('learn', [[], [[], []]])
def test_nothing_to_learn_is_as_before(learn):
    assert plan([['dog'], ['car']], learn=learn) == plan([['dog'], ['car']])


def test_a_class_order_leaves_out_what_is_learned():
    order = dict(num_steps=1, classes_per_step=3)
    for name in CLASSES:
        made = plan(order, learn=[[name]])
        assert name not in made.steps[0]


def test_classes_to_learn_need_images():
    with pytest.raises(ConfigError, match=r"learn\[0\].*'dog'.*nothing"):
        make(
            dict(steps=[['cat']], learn=[['dog']], missing='rest'),
            CLASSES,
            set(CLASSES) - {'dog'},
        )


@pytest.mark.parametrize(
    ('steps', 'settings', 'message'),
    [
        (None, {}, 'forgetting.steps = None'),
        ([], {}, r'forgetting.steps = \[\]'),
        ('cat', {}, 'forgetting.steps'),
        ([['cat'], []], {}, r'steps\[1\] = \[\].*forgets nothing'),
        (['cat'], {}, r"steps\[0\] = 'cat'"),
        ([['cta']], {}, "unknown name 'cta'.*'cat'"),
        ([['cat'], ['cat']], {}, "'cat'.*steps 1 and 2"),
        ([['cat', 'cat']], {}, "'cat'.*step 1, twice"),
        ([list(CLASSES)], {}, 'all 5 classes'),
        ([['cat']], dict(missing=['dgo']), "missing.*'dgo'.*'dog'"),
        (
            [['cat']],
            dict(missing=['dog', 'car', 'bus', 'bird']),
            'no retained class',
        ),
        ([['cat']], dict(learn='dog'), "forgetting.learn = 'dog'"),
        ([['cat']], dict(learn=['dog']), r"forgetting.learn = \['dog'\]"),
        ([['cat']], dict(learn=[['dgo']]), r"learn\[0\].*'dgo'.*'dog'"),
        (
            [['cat'], ['car']],
            dict(learn=[['dog'], ['dog']]),
            r"learn\[1\]: it names 'dog' a second time",
        ),
        (
            [['cat'], ['car']],
            dict(learn=[['dog']]),
            'forgetting.learn: it has 1 entries for 2 steps',
        ),
        (
            [['cat'], ['car']],
            dict(learn=[[], ['car']]),
            r"learn\[1\]: it names 'car', which step 2 forgets",
        ),
        (
            [['cat'], ['car']],
            dict(learn=[[], ['cat']]),
            r"learn\[1\]: it names 'cat', which step 1 forgets",
        ),
        (
            [['cat']],
            dict(learn=[['dog']], missing=['dog']),
            r"learn\[0\]: it names 'dog', which forgetting.missing",
        ),
        (
            [['cat', 'dog']],
            dict(learn=[['car', 'bus', 'bird']]),
            'forgets all 2 classes',
        ),
        (
            [['cat']],
            dict(learn=[['car', 'bus', 'bird']], missing=['dog']),
            'no retained class',
        ),
        (dict(num_steps=2), {}, 'classes_per_step'),
        (dict(num_steps=1, classes_per_step=1, sed=1), {}, 'sed'),
    ],
)
def test_bad_steps_are_named(steps, settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(steps, **settings)


def test_names_are_looked_up_not_searched_for():
    """A class of 13,204 costs what a class of 80 does."""
    asked = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            nonlocal asked
            asked += 1
            return str.__eq__(self, other)

    def names(start, stop):  # objects of their own, as a config has them
        return [Name(f'class {number}') for number in range(start, stop)]

    settings = dict(
        steps=[names(0, 200), names(200, 400)],
        learn=[names(400, 600), []],
        missing=names(600, 800),
    )
    made = make(settings, names(0, 1000), names(0, 600) + names(800, 1000))
    assert len(made.splits(2)['retain']) == 400
    assert asked < 20 * 1000
