import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from gslora_mm.entries import (
    ForgettingEntry,
    MethodEntry,
    ScheduleEntry,
    build_all,
    own_epochs,
    read_entries,
)
from gslora_mm.methods import BaseMethod
from gslora_mm.registry import METHODS
from gslora_mm.training.hooks import AutoScheduleHook, MethodHook
from gslora_mm.utils import ConfigError

SCHEDULE = dict(
    max_iters=3,
    batch_size=2,
    optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
)


def sequence(**changes):
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(type='DeformableDETR'),
            train_dataloader=dict(dataset=dict(type='CocoDataset')),
            val_dataloader=dict(dataset=dict(type='CocoDataset')),
            val_evaluator=dict(type='CocoMetric'),
            forgetting=dict(pretrained='a.pth', steps=[['cat'], ['dog']]),
            method=dict(type='gslora_mm.GSLoRA', beta=[0.1, 0.2]),
            adapter=dict(rank=4),
            schedule=SCHEDULE,
        )
    )
    cfg.merge_from_dict({k.replace('__', '.'): v for k, v in changes.items()})
    return cfg


def test_defaults_are_filled_in():
    entries = read_entries(sequence())
    assert entries.forgetting.sampling == 'balanced'
    assert entries.schedule.checkpoint_interval == 100
    assert entries.method.cls is METHODS.get('gslora_mm.GSLoRA')
    assert entries.adapter == dict(rank=4)
    assert entries.task == dict(type='gslora_mm.DetectionTask')
    assert entries.forget_ratio == 0.5
    build_all(entries, 2)


def test_what_is_complete_tells_defaults_from_nothing():
    spelled = sequence(schedule__log_interval=50, forgetting__missing=[])
    assert (
        read_entries(spelled).complete() == read_entries(sequence()).complete()
    )
    spelled = sequence(method__alpha_s=3e-4)  # the default of its class
    assert (
        read_entries(spelled).complete() == read_entries(sequence()).complete()
    )
    other = sequence(schedule__log_interval=51)
    assert (
        read_entries(other).complete() != read_entries(sequence()).complete()
    )


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(model=None), 'model: it is missing from the config; config of'),
        (dict(method=None), 'method: it is missing from the config; how to'),
        (dict(schedule__iters=3), 'schedule.iters: no such entry; known'),
        (dict(adapter__rnk=3), "adapter: unknown name 'rnk'.*'rank'"),
        (dict(schedule__forget_ratio=0), 'schedule.forget_ratio = 0: GSLoRA'),
        (dict(adapter='ffn'), "adapter = 'ffn': must be such as"),
        (dict(schedule__forget_ratio='0.5'), "schedule.forget_ratio = '0.5'"),
        (dict(schedule__forget_ratio=float('nan')), 'forget_ratio = nan: mus'),
        (dict(schedule__max_iters=True), 'schedule.max_iters = True: must be'),
        (
            dict(
                schedule__param_scheduler=dict(
                    type='CosineAnnealingLR', end='9'
                )
            ),
            'schedule.param_scheduler: cannot be used: TypeError',
        ),
        (
            dict(forgetting__allow_pickle='no'),
            "forgetting.allow_pickle = 'no': must be True or False",
        ),
        (dict(schedule__log_interval=0), 'schedule.log_interval = 0: must'),
        (dict(schedule=[3]), 'schedule.batch_size: missing'),
        (
            dict(schedule__hooks='Own'),
            "schedule.hooks = 'Own': must be a list of dictionaries",
        ),
        (
            dict(schedule__param_scheduler='LinearLR'),
            "schedule.param_scheduler = 'LinearLR': must be a dictionary",
        ),
        (dict(default_scope='mmseg'), "task.type: is missing.*'mmseg'"),
    ],
)
def test_bad_entries_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        read_entries(sequence(**changes))


def test_numbers_of_yaml_are_no_numbers_yet():
    """It reads 1e-3 as a text; what builds the optimizer says so."""
    optimizer = dict(type='AdamW', lr='1e-3')
    scheduler = dict(type='CosineAnnealingLR', eta_min=1e-5)
    ScheduleEntry(
        max_iters=3,
        batch_size=2,
        optim_wrapper=dict(optimizer=optimizer),
        param_scheduler=scheduler,
    )


def test_missing_keys_are_named():
    with pytest.raises(ConfigError, match='steps: missing; a list with the'):
        ForgettingEntry.read(dict(pretrained='a.pth'))
    with pytest.raises(ConfigError, match='batch_size: missing; images of a'):
        ScheduleEntry.read(dict(optim_wrapper={}))


def test_an_entry_is_a_copy():
    entry = dict(pretrained='a.pth', steps=[['cat']])
    made = ForgettingEntry.read(entry)
    entry['steps'][0].append('dog')
    assert made.steps == [['cat']]


def test_one_value_or_one_a_step():
    entry = MethodEntry(
        dict(type='gslora_mm.GSLoRA', beta=[0.1, 0.2], bound=5.0)
    )
    assert entry.for_step(2, 2) == dict(
        type='gslora_mm.GSLoRA', beta=0.2, bound=5.0
    )
    with pytest.raises(ConfigError, match='method.beta = .* 2 entries for 3'):
        entry.for_step(1, 3)
    unknown = MethodEntry(dict(type='gslora_mm.GSLora'))
    with pytest.raises(ConfigError, match="unknown name 'GSLora'.*'GSLoRA'"):
        unknown.for_step(1, 1)


@pytest.mark.parametrize(
    'method, ratio',
    [('GSLoRA', 0.5), ('FineTune', 0.0), ('GradientAscent', 1.0)],
)
def test_a_batch_holds_what_the_method_needs(method, ratio):
    cls = METHODS.get(f'gslora_mm.{method}')
    assert ScheduleEntry(**SCHEDULE).ratio_for(cls) == ratio
    wanted = ScheduleEntry(**SCHEDULE, forget_ratio=0.25)
    assert wanted.ratio_for(cls) == 0.25


@pytest.mark.parametrize(
    'method, ratio, role',
    [
        ('GSLoRA', 0, 'forget'),
        ('GSLoRA', 1.0, 'retain'),
        ('FineTune', 1, 'retain'),
    ],
)
def test_a_batch_without_what_the_method_needs(method, ratio, role):
    schedule = ScheduleEntry(**SCHEDULE, forget_ratio=ratio)
    with pytest.raises(ConfigError, match=f'forget_ratio = .*needs {role}'):
        schedule.ratio_for(METHODS.get(f'gslora_mm.{method}'))


@pytest.mark.parametrize(
    'method, share, ratio',
    [
        ('MaskedDistillation', 'forget_share', 0.0),
        ('MaskedDistillation', 'retain_share', 1.0),
        ('FineTune', 'forget_share', 0.0),
        ('DELETE', 'retain_share', 1.0),
    ],
)
def test_batches_hold_nothing_of_which_there_is_no_image(method, share, ratio):
    method = dict(_delete_=True, type=f'gslora_mm.{method}')
    cfg = sequence(method=method, **{f'forgetting__{share}': 0})
    assert read_entries(cfg).forget_ratio == ratio


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            dict(forgetting__forget_share=0),
            'forgetting.forget_share = 0: GSLoRA needs forget images; methods '
            'that do without are .*MaskedDistillation',
        ),
        (
            dict(forgetting__retain_share=0),
            'forgetting.retain_share = 0: GSLoRA needs retain .*DELETE',
        ),
        (
            dict(forgetting__retain_share=0, forgetting__forget_share=0),
            'forgetting.forget_share = 0: retain_share is 0, too',
        ),
        (
            dict(
                method=dict(_delete_=True, type='MaskedDistillation'),
                forgetting__forget_share=0,
                schedule__forget_ratio=0.5,
            ),
            'schedule.forget_ratio = 0.5: forgetting.forget_share is 0',
        ),
        (
            dict(
                method=dict(_delete_=True, type='MaskedDistillation'),
                schedule__forget_ratio=0,
            ),
            'schedule.forget_ratio = 0: MaskedDistillation would see no '
            'forget image; if .* forgetting.forget_share = 0',
        ),
    ],
)
def test_a_method_without_the_images_that_it_needs(changes, message):
    with pytest.raises(ConfigError, match=message):
        read_entries(sequence(**changes))


def test_a_cycle_may_rise_before_it_falls():
    schedule = dict(
        SCHEDULE,
        param_scheduler=[
            dict(type='CosineAnnealingLR', eta_min=0.1, end=5),
            dict(type='CosineAnnealingLR', eta_min=1e-4, begin=5),
            dict(type='CosineAnnealingMomentum', eta_min=0.85),
        ],
    )
    assert ScheduleEntry.read(schedule).batch_size == 2
    schedule['param_scheduler'].reverse()
    with pytest.raises(ConfigError, match='eta_min = 0.1: it is above'):
        ScheduleEntry.read(schedule)


def test_schedulers_count_the_iterations_of_the_step():
    entry = ScheduleEntry(
        **SCHEDULE,
        param_scheduler=[
            dict(type='LinearLR', end=10),
            dict(type='CosineAnnealingLR', begin=10, eta_min=1e-5),
        ],
    )
    made = entry.schedulers(300)
    assert [config['by_epoch'] for config in made] == [False, False]
    assert made[0]['end'] == 10
    assert made[1]['end'] == 300
    assert made[1]['T_max'] == 290
    assert ScheduleEntry(**SCHEDULE).schedulers(300) == []
    by_epoch = dict(type='LinearLR', by_epoch=True)
    with pytest.raises(ConfigError, match='by_epoch = True'):
        ScheduleEntry(**SCHEDULE, param_scheduler=by_epoch)


WARMED_UP = [
    dict(type='LinearLR', start_factor=0.04, end=0.1),
    dict(type='CosineAnnealingLR', begin=0.1, eta_min=1e-5),
]


def rates(entry, iters, lr=0.01):
    """Learning rates of all iterations of a step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(config, optimizer=optimizer))
        for config in entry.schedulers(iters)
    ]
    found = []
    for _ in range(iters):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize('iters', [300, 20, 14, 4])
def test_schedulers_begin_and_end_at_shares_of_a_step(iters):
    entry = ScheduleEntry(**SCHEDULE, param_scheduler=WARMED_UP)
    found = rates(entry, iters)
    assert max(found) == pytest.approx(0.01)
    # Too short for a warm-up of two iterations.
    assert (found[0] < 0.01) == (iters >= 20)
    assert found[-1] < max(found) / (1.05 if iters < 20 else 10)


@pytest.mark.parametrize('iters', [1, 2])
def test_a_step_too_short_for_any_scheduler(iters):
    entry = ScheduleEntry(**SCHEDULE, param_scheduler=WARMED_UP)
    assert rates(entry, iters)[0] == pytest.approx(0.01)


def test_a_scheduler_that_begins_after_the_step_is_left_out():
    later = dict(type='CosineAnnealingLR', begin=300, eta_min=1e-5)
    entry = ScheduleEntry(**SCHEDULE, param_scheduler=later)
    assert entry.schedulers(300) == []
    assert entry.schedulers(302)[0]['T_max'] == 2


@pytest.mark.parametrize(
    ('where', 'message'),
    [
        (dict(end=1.5), 'end = 1.5: .*from 0.0 to 1.0'),
        (dict(begin=-0.5), 'begin = -0.5: .*from 0.0 to 1.0'),
        (dict(end=float('nan')), 'end = nan'),
        (dict(begin=0.5, end=0.3), 'end = 0.3: must be above begin, 0.5'),
        (dict(begin=500, end=400), 'end = 400: must be above begin, 500'),
        (dict(end=0.0), 'end = 0.0: must be above begin, 0'),
        (dict(end=1), 'end = 1: .*the end of a step is 1.0'),
        (dict(begin=7, end=8), 'end = 8: is the iteration after begin'),
        (dict(begin=300, end='x'), 'cannot be used: TypeError'),
    ],
)
def test_a_scheduler_from_nowhere_to_nowhere(where, message):
    config = dict(type='LinearLR', **where)
    with pytest.raises(ConfigError, match=message):
        ScheduleEntry(**SCHEDULE, param_scheduler=config)


def test_all_of_a_step_in_shares():
    config = dict(type='LinearLR', begin=0.0, end=1.0)
    made = ScheduleEntry(**SCHEDULE, param_scheduler=config).schedulers(7)
    assert (made[0]['begin'], made[0]['end']) == (0, 7)


def half(**changes):
    """A sequence that trains half as long as its model was trained."""
    return sequence(
        **{
            'schedule__max_iters': None,
            'schedule__max_epochs': 'half',
            **changes,
        }
    )


@pytest.mark.parametrize(
    ('changes', 'epochs'),
    [
        (dict(train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=50)), 50),
        (dict(train_cfg=dict(by_epoch=True, max_epochs=3)), 3),
        (  # batches of 16, of 48 images
            dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=9)),
            3,
        ),
        (  # in all processes together
            dict(
                train_cfg=dict(max_iters=9),
                auto_scale_lr=dict(base_batch_size=64),
            ),
            12,
        ),
        (
            dict(
                train_cfg=dict(max_epochs=4),
                train_dataloader__dataset=dict(
                    _delete_=True,
                    type='mmdet.RepeatDataset',
                    times=3,
                    dataset=dict(type='CocoDataset'),
                ),
            ),
            12,
        ),
    ],
)
def test_half_as_long_as_the_model_was_trained(changes, epochs):
    cfg = half(train_dataloader__batch_size=16, **changes)
    schedule = read_entries(cfg).schedule
    assert own_epochs(cfg, 48) == epochs
    assert schedule.num_iterations(10, epochs) == 5 * epochs
    assert schedule.num_iterations(1, 0.1) == 1


def test_iterations_take_the_place_of_half():
    """As those of ``--cfg-options`` have to, beside a config that has it."""
    cfg = half(schedule__max_iters=7)  # and no train_cfg
    schedule = read_entries(cfg).schedule
    assert (schedule.max_iters, schedule.max_epochs) == (7, None)


@pytest.mark.parametrize(
    ('train_cfg', 'message'),
    [
        (None, 'train_cfg of the config does not say'),
        (dict(max_epochs='50'), 'train_cfg of the config does not say'),
        (dict(max_epochs=0), 'train_cfg of the config does not say'),
        ([3], 'train_cfg of the config does not say'),
        (dict(max_iters=100), 'train_dataloader.batch_size is None'),
    ],
)
def test_half_of_an_unknown_time(train_cfg, message):
    cfg = half()
    cfg.train_cfg = train_cfg
    with pytest.raises(
        ConfigError, match=f"schedule.max_epochs = 'half': .*{message}"
    ):
        read_entries(cfg)
    cfg.schedule.max_epochs = 3  # as it says
    assert read_entries(cfg).schedule.max_epochs == 3


@pytest.mark.parametrize('size', [None, 0, 'four'])
def test_half_with_a_bad_batch(size):
    cfg = half(train_cfg=dict(max_iters=9), train_dataloader__batch_size=16)
    if size is None:
        del cfg.schedule['batch_size']
    else:
        cfg.schedule.batch_size = size
    with pytest.raises(ConfigError, match='schedule.batch_size'):
        read_entries(cfg)


def test_a_third_is_no_length():
    with pytest.raises(ConfigError, match="must be an int >= 1, or 'half'"):
        read_entries(
            sequence(schedule__max_iters=None, schedule__max_epochs='third')
        )


def test_a_hook_that_sets_the_rate_wants_no_scheduler():
    schedule = dict(
        SCHEDULE,
        param_scheduler=dict(type='LinearLR', start_factor=0.1, end=2),
        hooks=[dict(type='gslora_mm.AutoScheduleHook')],
    )
    with pytest.raises(ConfigError, match='AutoScheduleHook in schedule.ho'):
        ScheduleEntry(**schedule)
    assert ScheduleEntry(**{**schedule, 'param_scheduler': None})


@pytest.mark.parametrize(
    'lengths, message',
    [
        (dict(max_iters=None), 'exactly one'),
        (dict(max_epochs=3), 'exactly one'),
        (dict(max_iters=-4), 'max_iters = -4: must be an int >= 1'),
        (dict(max_iters=None, max_epochs=0.5), 'max_epochs = 0.5'),
    ],
)
def test_lengths(lengths, message):
    with pytest.raises(ConfigError, match=message):
        ScheduleEntry(**{**SCHEDULE, **lengths})
    assert ScheduleEntry(**SCHEDULE).num_iterations(7) == 3
    by_epoch = {**SCHEDULE, 'max_iters': None, 'max_epochs': 2}
    assert ScheduleEntry(**by_epoch).num_iterations(7) == 14


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(method__beta=-1.0), 'method.beta = -1'),
        (
            dict(schedule__hooks=[dict(type='gslora_mm.AdapterEMAHook', a=1)]),
            'schedule.hooks',
        ),
        (
            dict(
                task=dict(type='gslora_mm.DetectionTask', aux_loss=dict(f=1))
            ),
            'task.aux_loss',
        ),
    ],
)
def test_all_values_are_tried(changes, message):
    with pytest.raises(ConfigError, match=message):
        build_all(read_entries(sequence(**changes)), 2)


def test_methods_are_found_by_their_class():
    assert issubclass(read_entries(sequence()).method.cls, BaseMethod)


@pytest.mark.parametrize(
    ('kind', 'ends'),
    [
        ('gslora_mm.AutoScheduleHook', True),
        (AutoScheduleHook, True),  # as in configs of the new style
        (MethodHook, False),
    ],
)
def test_hooks_that_end_a_step_are_known_by_name_and_class(kind, ends):
    schedule = ScheduleEntry(
        batch_size=4, optim_wrapper={}, max_iters=1, hooks=[dict(type=kind)]
    )
    assert schedule.may_end_early is ends
