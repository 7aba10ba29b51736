"""GS-LoRA++: its loss by hand, and prototypes of the right model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from gslora_mm.lora import inject_lora, lora_groups
from gslora_mm.methods import GSLoRA, GSLoRAPP
from gslora_mm.methods.ingredients.prototypes import class_means
from gslora_mm.tasks import BaseTask
from gslora_mm.utils import ConfigError
from tests.processes import on_two_processes
from . import helpers

CLASSES = ('cat', 'dog', 'car', 'bus')


class Half:
    """A half batch with given losses and random features."""

    def __init__(self, loss_cls, loss_rest, labels=(0, 1, 0), seed=0, dim=6):
        self.loss_cls = torch.tensor(loss_cls, requires_grad=True)
        self.loss_rest = torch.tensor(loss_rest, requires_grad=True)
        self.labels = torch.tensor(labels, dtype=torch.long)
        self.features = torch.randn(
            len(labels), dim, generator=torch.Generator().manual_seed(seed)
        ).requires_grad_()

    @property
    def loss(self):
        return self.loss_cls + self.loss_rest


class ClassLayerTask:
    """A task whose prototypes are given rows."""

    prototype_source = 'class_layer'

    def __init__(self, rows):
        self.rows = rows

    def class_weights(self, model):
        return self.rows.clone()


def no_images():
    none = SimpleNamespace(labels=[], class_counts={})
    return SimpleNamespace(
        metainfo=dict(classes=CLASSES), datasets=[none, none]
    )


def random_groups(seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: [
            nn.Parameter(torch.randn(shape, generator=generator))
            for shape in ((2, 6), (6, 2))
        ]
        for name in 'ab'
    }


def random_rows(seed=7):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(len(CLASSES), 6, generator=generator)


def set_up(cls=GSLoRAPP, rows=None, **settings):
    if cls is GSLoRAPP:
        settings.setdefault('form', 'published')
        settings.setdefault('prototype_source', 'class_layer')
    method = cls(**settings)
    rows = random_rows() if rows is None else rows
    model = SimpleNamespace(
        groups=random_groups(), model=None, task=ClassLayerTask(rows)
    )
    method.setup(model)
    method.prepare(model, no_images())
    return method


def divergence(method, half):
    return method.class_prototypes.divergence(half, method.prototype_loss)


def losses_of(method, forget, retain):
    return {
        name: value
        for part in method.losses(forget, retain)
        for name, value in part.items()
    }


def total(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


# The loss against NumPy ---------------------------------------------------


def double(tensor):
    return tensor.detach().double().numpy()


def softmax64(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def kl64(half, rows):
    """Mean over the rows of sum p log(p / q)."""
    p = softmax64(double(rows)[half.labels.numpy()])
    q = softmax64(double(half.features))
    return (p * np.log(p / q)).sum(1).mean()


def gs_lora64(forget, retain, beta, bound, alpha_s):
    structure = sum(
        np.sqrt(sum((double(p) ** 2).sum() for p in group))
        for group in random_groups().values()
    )
    forgetting = max(bound - double(forget.loss_cls), 0)
    return (
        double(retain.loss_cls)
        + double(retain.loss_rest)
        + beta * (forgetting + double(forget.loss_rest))
        + alpha_s * structure
    )


SETTINGS = dict(beta=0.3, bound=5.0, alpha_s=0.01)


@pytest.mark.parametrize('seed', range(5))
def test_gs_lora_against_float64(seed):
    rng = np.random.default_rng(seed)
    forget, retain = (Half(*rng.uniform(0, 4, 2).tolist()) for _ in 'fr')
    method = set_up(GSLoRA, **SETTINGS)
    value = total(losses_of(method, forget, retain)).item()
    expected = gs_lora64(forget, retain, **SETTINGS)
    assert value == pytest.approx(expected, rel=1e-6)


def relative64(half, rows):
    """Mean of 1 - cos, over that of all pairs of prototypes."""

    def cosines(a, b):
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
        return unit[0] @ unit[1].T

    rows, features = double(rows), double(half.features)
    apart = 1 - cosines(rows, rows)[~np.eye(len(rows), dtype=bool)]
    own = 1 - np.diag(cosines(features, rows[half.labels.numpy()]))
    return own.mean() / apart.mean()


@pytest.mark.parametrize('scale', [1.0, 100.0])
@pytest.mark.parametrize('seed', range(3))
def test_the_relative_form_against_float64_whatever_the_scale(seed, scale):
    forget, retain = Half(1.0, 0.0, seed=seed), Half(1.0, 0.0, seed=seed + 9)
    settings = dict(form='relative', w_f=0.7, w_r=0.2, w_hold=0.0)
    method = set_up(**settings, **SETTINGS)
    method.class_prototypes.rows *= scale
    found = losses_of(method, forget, retain)
    far, near = (relative64(half, random_rows()) for half in (forget, retain))
    assert found['distance_forget'].item() == pytest.approx(far, rel=1e-5)
    assert found['loss_prototype_forget'].item() == pytest.approx(
        0.7 * max(1 - far, 0), rel=1e-4, abs=1e-6
    )
    assert found['loss_prototype_retain'].item() == pytest.approx(
        0.2 * near, rel=1e-5
    )


def test_a_form_says_what_is_not_given():
    relative, published = GSLoRAPP(), GSLoRAPP(form='published', w_f=0.01)
    assert relative.bound_pro == 1.0 and relative.w_r > 1
    assert (published.w_f, published.w_r) == (0.01, 0.005)
    assert published.bound_pro == 18.0
    assert relative.w_hold > 0 == published.w_hold
    assert relative.prototype_source == 'features'
    assert published.prototype_source is None
    assert type(relative.prototype_loss) is not type(published.prototype_loss)
    with pytest.raises(ConfigError, match="method.form = 'ours': must be one"):
        GSLoRAPP(form='ours')


@pytest.mark.parametrize('bound_pro', [0.5, 18.0])
@pytest.mark.parametrize('seed', range(5))
def test_gs_lora_pp_against_float64(seed, bound_pro):
    """Below and above the bound of the push."""
    rng = np.random.default_rng(seed)
    forget, retain = (
        Half(
            *rng.uniform(0, 4, 2).tolist(),
            labels=rng.integers(0, len(CLASSES), 5).tolist(),
            seed=10 * seed + offset,
        )
        for offset in (1, 2)
    )
    method = set_up(w_f=0.7, w_r=0.2, bound_pro=bound_pro, **SETTINGS)
    losses = losses_of(method, forget, retain)
    kl_f, kl_r = kl64(forget, random_rows()), kl64(retain, random_rows())
    expected = (
        gs_lora64(forget, retain, **SETTINGS)
        + 0.7 * max(bound_pro - kl_f, 0)
        + 0.2 * kl_r
    )
    assert total(losses).item() == pytest.approx(expected, rel=1e-6)
    assert losses['distance_forget'].item() == pytest.approx(kl_f, rel=1e-6)
    assert losses['distance_retain'].item() == pytest.approx(kl_r, rel=1e-6)


def test_push_and_pull():
    """A step down the loss moves KL_f up and KL_r down."""
    method = set_up(w_f=0.5, w_r=0.5)
    forget, retain = Half(1.0, 0.0, seed=1), Half(1.0, 0.0, seed=2)
    before = losses_of(method, forget, retain)
    total(before).backward()
    for half in (forget, retain):
        half.features = half.features - 0.01 * half.features.grad
    after = losses_of(method, forget, retain)
    assert after['distance_forget'] > before['distance_forget']
    assert after['distance_retain'] < before['distance_retain']


def test_nothing_is_pushed_beyond_the_bound():
    method = set_up(w_f=0.5, bound_pro=1e-3)
    forget = Half(1.0, 0.0)
    losses = losses_of(method, forget, Half(1.0, 0.0))
    total(losses).backward()
    assert losses['loss_prototype_forget'] == 0
    assert not forget.features.grad.any()
    assert forget.loss_cls.grad < 0  # CE_f has its own bound


def test_the_terms_of_a_half_come_in_one_part():
    """They share a forward pass, which is freed after each part."""
    parts = list(set_up().losses(Half(1.0, 0.0), Half(1.0, 0.0)))
    assert [sorted(k for k in part if 'loss' in k) for part in parts] == [
        ['loss_forget', 'loss_forget_rest', 'loss_prototype_forget'],
        ['loss_prototype_retain', 'loss_retain'],
        ['loss_structure'],
    ]


def test_prototypes_get_no_gradient():
    method = set_up(rows=random_rows().requires_grad_())
    assert not method.class_prototypes.rows.requires_grad
    assert not list(method.parameters())


def test_half_precision_features():
    method = set_up(w_f=0.7)
    half = Half(1.0, 0.0)
    expected = divergence(method, half)[0]
    half.features = half.features.bfloat16()
    assert divergence(method, half)[0].item() == pytest.approx(
        expected.item(), rel=0.02
    )


# The teacher ---------------------------------------------------------------


def masked_kl64(logits, teacher):
    """Of softmaxes over all classes but the first."""
    q, p = (softmax64(double(z)[:, 1:]) for z in (logits, teacher))
    return (p * np.log(p / q)).sum(1).mean()


def test_what_is_said_of_the_other_classes_is_held():
    method = set_up(form='relative', w_hold=0.0)
    method.w_hold = 0.3
    teacher, forget, retain = (helpers.Half(seed=seed) for seed in range(3))
    method.teacher = SimpleNamespace(
        outputs=lambda half: teacher.logits,
        is_kept=torch.tensor([False, True, True, True]),
    )
    found = losses_of(method, forget, retain)
    expected = 0.3 * masked_kl64(retain.logits, teacher.logits)
    assert found['loss_hold_retain'].item() == pytest.approx(expected)


def test_what_was_forgotten_before_is_denied():
    method = set_up(form='relative', w_hold=0.0)
    method.w_hold = 0.3
    forget, retain = (helpers.Half(seed=seed) for seed in range(2))
    # Class 0 goes in this step, class 2 has gone before.
    method.teacher = SimpleNamespace(
        outputs=lambda half: half.logits,
        is_kept=torch.tensor([False, True, True, True]),
    )
    method.gone = torch.tensor([True, False, True, False])
    found = losses_of(method, forget, retain)['loss_old_forget'].item()
    p = softmax64(double(forget.logits))[:, 2]
    assert found == pytest.approx(-0.3 * np.log(1 - p).mean(), rel=1e-5)
    method.gone = ~method.teacher.is_kept
    assert 'loss_old_forget' not in losses_of(method, forget, retain)


@pytest.mark.parametrize('task', helpers.TASKS)
def test_a_model_comes_back_to_what_it_said(task):
    alone = dict(beta=0.0, w_f=0.0, w_r=0.0, alpha_s=0.0, w_hold=100.0)
    before, after = helpers.before_and_after(
        'GSLoRAPP', task, helpers.LORA, 'loss_hold_retain', **alone
    )
    assert 0 < after < before


def test_the_published_form_has_no_teacher_and_may_learn():
    published, relative = GSLoRAPP(form='published'), GSLoRAPP()
    dataset = helpers.TinyDataset('classification')
    for method in (published, relative):
        model = helpers.tiny_model(
            'classification', dict(type='gslora_mm.GSLoRAPP')
        )
        method.setup(model)
        method.prepare(model, dataset)
    assert published.teacher is None and relative.teacher is not None
    assert published.can_learn and not relative.can_learn


# Rows without a prototype or without features -----------------------------


def without(method, *labels):
    method.class_prototypes.known[list(labels)] = False
    method.class_prototypes.rows[list(labels)] = 0
    return method


def test_features_without_a_prototype_are_left_out():
    method = without(set_up(), 1)
    whole, rest = Half(1.0, 0.0, labels=(0, 1, 3)), Half(1.0, 0.0, labels=())
    rest.labels, rest.features = whole.labels[[0, 2]], whole.features[[0, 2]]
    assert torch.equal(
        divergence(method, whole)[0], divergence(method, rest)[0]
    )
    divergence(method, whole)[0].backward()
    assert not whole.features.grad[1].any() and whole.features.grad[0].any()


@pytest.mark.parametrize('labels', [(), (1, 1)])
def test_a_half_without_any_such_feature_adds_nothing(labels):
    method = without(set_up(w_f=0.5, w_r=0.5), 1)
    halves = [Half(1.0, 0.0, labels=labels) for _ in 'fr']
    losses = losses_of(method, *halves)
    assert losses['loss_prototype_forget'] == 0
    assert losses['loss_prototype_retain'] == 0
    total(losses).backward()
    for half in halves:
        assert not half.features.grad.any()


def test_classes_without_a_prototype_are_named(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'gslora_mm.methods.gs_lora_pp.print_log',
        lambda line, *args: lines.append(line),
    )
    method, dataset = without(set_up(), 1, 2), no_images()
    dataset.datasets = [
        SimpleNamespace(class_counts=dict(dog=3, cat=3), labels=[0, 1]),
        SimpleNamespace(class_counts=dict(car=0, bus=3)),
    ]
    method.prepare(SimpleNamespace(), dataset)
    (line,) = lines
    assert line.startswith('no prototype for dog: ')


def test_losses_without_prototypes_are_a_clear_error():
    method = GSLoRAPP()
    with pytest.raises(RuntimeError, match='prepare'):
        divergence(method, Half(1.0, 0.0))


# State --------------------------------------------------------------------


def test_state_round_trip():
    method = without(set_up(), 2)
    other = set_up(rows=torch.zeros(4, 6))
    other.load_carried_state(method.carried_state())
    assert torch.equal(
        other.class_prototypes.rows, method.class_prototypes.rows
    )
    assert other.class_prototypes.known.tolist() == [True, True, False, True]


def test_what_is_gone_is_carried_on_but_not_to_another_run():
    method = set_up()
    method.gone = torch.tensor([True, False, False, True])
    other = set_up()
    other.load_carried_state(method.carried_state())
    assert other.gone.tolist() == [True, False, False, True]
    other.load_given_state(method.carried_state())
    assert not other.gone.any()
    # A file of before has prototypes all the same.
    before = dict(method.carried_state())
    del before['gone']
    other.load_given_state(before)


def test_loaded_prototypes_are_never_made_again():
    """Fault 2 of the public code: new ones in each step."""
    first = set_up()
    second = GSLoRAPP(w_hold=0.0, prototype_source='class_layer')
    model = SimpleNamespace(
        groups=random_groups(),
        model=None,
        task=ClassLayerTask(random_rows(seed=8)),
    )
    second.setup(model)
    second.load_carried_state(first.carried_state())
    second.prepare(model, no_images())
    assert torch.equal(second.class_prototypes.rows, random_rows())


def test_prototypes_are_not_saved_with_every_state_of_a_step():
    assert not set_up().state_dict()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('has_prototype'), 'has_prototype'),
        (lambda s: s.pop('gone'), "has no 'gone'"),
        (
            lambda s: s.update(
                {'prototypes.features': s.pop('prototypes.class_layer')}
            ),
            "prototype_source is 'class_layer'",
        ),
        (
            lambda s: s.update(has_prototype=torch.ones(3, dtype=bool)),
            'shape',
        ),
        (
            lambda s: s.update(
                {'prototypes.class_layer': torch.full((4, 6), torch.nan)}
            ),
            'not finite',
        ),
    ],
)
def test_another_state_is_refused(change, message):
    method = set_up()
    state = dict(method.carried_state())
    change(state)
    with pytest.raises(ValueError, match=message):
        method.load_carried_state(state)


# Mean features ------------------------------------------------------------


class Toy(nn.Module):
    """A model with what a feature must not depend on, and one adapter."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 6)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.linear(x))


class FeatureTask:
    """A task for :class:`Toy`; notes the sizes of the batches."""

    prototype_source = 'features'
    read = BaseTask.read

    def __init__(self):
        self.seen = []

    def num_classes(self, model):
        return len(CLASSES)

    def extract(self, model, inputs):
        return inputs

    def half(self, model, inputs, features, data_samples, index, role):
        self.seen.append(len(index))
        return SimpleNamespace(
            features=model(features[index]), labels=torch.tensor(data_samples)
        )


class ToyModel(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.model = Toy()
        self.model.data_preprocessor = self.data_preprocessor
        self.task = FeatureTask()
        inject_lora(self.model, rank=2, target='linear')
        self.groups = lora_groups(self.model, 'matrix')
        self.trainings = []

    def data_preprocessor(self, data, training):
        self.trainings.append(training)
        return dict(
            inputs=torch.stack(data['inputs']),
            data_samples=data['data_samples'],
        )


class ToyDataset:
    """Five images to forget, eight to retain; 'bus' has none.

    Like a pipeline with random augmentations, it adds noise from the seed.
    """

    metainfo = dict(classes=CLASSES)
    cumulative_sizes = (5, 13)

    def __init__(self, noise=0.0):
        self.datasets = [
            SimpleNamespace(
                role='forget', class_counts=dict(cat=5), labels=[0]
            ),
            SimpleNamespace(role='retain', class_counts=dict(dog=4, car=4)),
        ]
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(13, 5, generator=generator)
        self.labels = [0] * 5 + [1, 2] * 4
        self.noise = noise
        self.asked = []

    def __getitem__(self, item):
        self.asked.append(item)
        index, seed = item
        generator = torch.Generator().manual_seed(seed)
        noise = self.noise * torch.randn(5, generator=generator)
        return dict(
            inputs=self.images[index] + noise, data_samples=self.labels[index]
        )


def expected_means(model, images, labels):
    """Of the stock layer alone, in float64."""
    weight = double(model.model.linear.stock_weight)
    features = double(images) @ weight.T + double(model.model.linear.bias)
    rows = np.zeros((len(CLASSES), 6))
    for label in set(labels):
        rows[label] = features[np.array(labels) == label].mean(0)
    return rows


def test_means_of_the_model_without_its_adapter():
    """Fault 2: not of the adapted model, and not in training mode."""
    model, dataset = ToyModel(), ToyDataset()
    with torch.no_grad():
        model.model.linear.lora_B.normal_()
    model.train()
    rows, counts = class_means(model, dataset, batch_size=3)
    expected = expected_means(model, dataset.images, dataset.labels)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert counts.tolist() == [5, 4, 4, 0]
    assert rows.dtype == torch.float32 and not rows.requires_grad
    assert model.training and model.model.dropout.training
    assert model.model.linear.enabled
    assert not any(model.trainings)
    assert model.task.seen == [3, 2, 3, 3, 2]  # the halves apart


def test_every_pass_has_its_own_augmentation():
    model, dataset = ToyModel(), ToyDataset(noise=1.0)
    one, _ = class_means(model, dataset)
    once_asked = list(dataset.asked)
    again, _ = class_means(model, dataset)
    assert torch.equal(one, again)  # nothing depends on what was before
    dataset.asked.clear()
    three, counts = class_means(model, dataset, passes=3)
    assert counts.tolist() == [15, 12, 12, 0]
    assert len(set(dataset.asked)) == 39
    assert dataset.asked[:13] == once_asked
    exact = expected_means(model, dataset.images, dataset.labels)
    # Noise averages out.
    assert (
        np.abs(double(three) - exact).mean()
        < np.abs(double(one) - exact).mean()
    )


def test_no_image_is_no_prototype():
    model, dataset = ToyModel(), ToyDataset()
    method = GSLoRAPP(w_hold=0.0)
    method.setup(model)
    method.prepare(model, dataset)
    assert method.class_prototypes.source == 'features'
    assert method.class_prototypes.known.tolist() == [True, True, True, False]
    assert method.class_prototypes.rows.isfinite().all()
    assert not method.class_prototypes.rows[3].any()


def test_the_random_state_stays_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(3)
    model, dataset = ToyModel(), ToyDataset(noise=1.0)
    torch.manual_seed(3)
    class_means(model, dataset)
    assert torch.equal(torch.rand(3), expected)


# Several processes --------------------------------------------------------


def halves_of(rank):
    """Two rows on one process and five on the other; of the whole, seven."""
    parts = {0: slice(0, 2), 1: slice(2, 7), None: slice(None)}
    half = Half(1.0, 0.0, labels=(0, 1, 2, 3, 3, 1, 0), seed=4)
    half.labels = half.labels[parts[rank]]
    half.features = half.features.detach()[parts[rank]].requires_grad_()
    return half


def loss_and_gradient(rank):
    method = set_up(w_f=0.5)
    half = halves_of(rank)
    part = next(method.losses(half, half))
    part['loss_prototype_forget'].backward()
    # Gradients are averaged over the two processes.
    return part['distance_forget'], half.features.grad / 2


def test_two_processes_are_one_with_the_joint_batch(tmp_path):
    """Whatever share of the matched queries each of them has."""
    ranks = on_two_processes(loss_and_gradient, tmp_path)
    half = halves_of(None)
    part = next(set_up(w_f=0.5).losses(half, half))
    part['loss_prototype_forget'].backward()
    for kl, _ in ranks:
        torch.testing.assert_close(kl, part['distance_forget'])
    gradient = torch.cat([gradient for _, gradient in ranks])
    torch.testing.assert_close(gradient, half.features.grad)


# Settings -----------------------------------------------------------------


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(beta=-0.1), 'method.beta = -0.1'),
        (dict(w_f=-1), 'method.w_f = -1'),
        (dict(w_r=float('nan')), 'method.w_r = nan'),
        (dict(w_r='big'), "method.w_r = 'big'"),
        (dict(bound_pro=0), 'method.bound_pro = 0'),
        (dict(warmup_epochs=-1), 'method.warmup_epochs = -1'),
        (dict(prototypes=3), 'method.prototypes = 3'),
        (dict(prototype_source='head'), "method.prototype_source = 'head'"),
        (dict(prototype_passes=0), 'method.prototype_passes = 0'),
        (
            dict(prototype_batch_size=1.5),
            'method.prototype_batch_size = 1.5',
        ),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match='must be') as error:
        GSLoRAPP(**settings)
    assert named in str(error.value)


def test_a_head_without_class_weights_is_found_out_in_setup():
    class Task(FeatureTask):
        def class_weights(self, model):
            raise ConfigError('model.head: no class layer')

    model = SimpleNamespace(groups=random_groups(), model=None, task=Task())
    GSLoRAPP().setup(model)
    with pytest.raises(ConfigError, match='no class layer'):
        GSLoRAPP(prototype_source='class_layer').setup(model)


def test_needs_an_adapter():
    with pytest.raises(ConfigError, match='adapter = None: GSLoRAPP'):
        GSLoRAPP().setup(SimpleNamespace(groups={}))
