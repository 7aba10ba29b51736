"""Fakes and tiny real models for the tests of the methods.

Formulas are checked on :class:`Half`, whose tensors are free leaves in
float64; everything that needs layers, an adapter or an optimizer on
:func:`tiny_model`, a ForgettingModel that trains in a second.
"""

import copy
import tempfile
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn

from gslora_mm.lora import inject_lora, lora_groups
from gslora_mm.registry import MODELS
from gslora_mm.tasks import HalfBatch, Seen
from gslora_mm.training import ForgettingModel
from gslora_mm.utils.quiet import no_info
from tests.classifiers import (
    random_images,
    randomise,
    tiny_classifier_config,
)
from tests.detectors import random_batch, tiny_detector_config
from tests.test_lora.helpers import perturb

TASKS = ('classification', 'detection')
NUM_CLASSES = 4
LORA = dict(rank=2)


# Fakes ----------------------------------------------------------------------


class Half:
    """A half batch with given losses and random rows, all in float64.

    Losses, features and logits are leaves of their own: what a method does
    to each is its gradient.

    Args:
        loss_cls: Classification loss. Defaults to 1.0.
        loss_rest: Sum of the other losses. Defaults to 0.0.
        labels: Class ids of the rows; there may be none.
        num_classes: Columns of the logits. Defaults to 4.
        dim: Columns of the features. Defaults to 6.
        seed: Of features and logits. Defaults to 0.
        activation: ``'softmax'`` or ``'sigmoid'``.
        relabelled_losses: ``loss_cls`` and ``loss_rest`` of the half that
            :meth:`relabelled` gives. Defaults to (2.0, 0.0).
        loss_background: Part of ``loss_cls``. Defaults to 0.0.
    """

    def __init__(
        self,
        loss_cls=1.0,
        loss_rest=0.0,
        labels=(0, 1, 0),
        num_classes=NUM_CLASSES,
        dim=6,
        seed=0,
        activation='softmax',
        relabelled_losses=(2.0, 0.0),
        loss_background=0.0,
    ):
        generator = torch.Generator().manual_seed(seed)
        self.loss_cls, self.loss_rest = map(leaf, (loss_cls, loss_rest))
        self.labels = torch.tensor(labels, dtype=torch.long)
        self.features, self.logits = (
            leaf(
                torch.randn(
                    len(labels), size, generator=generator, dtype=torch.double
                )
            )
            for size in (dim, num_classes)
        )
        self.loss_background = leaf(loss_background)
        self.activation = activation
        self.relabelled_losses = relabelled_losses

    def __len__(self):
        return 2

    @property
    def loss(self):
        return self.loss_cls + self.loss_rest

    outputs_of = HalfBatch.outputs_of
    distance_to = HalfBatch.distance_to
    presence_of = HalfBatch.presence_of

    def seen_by(self, model):
        return model(self)

    def relabelled(self, draw):
        other = copy.copy(self)
        other.loss_cls, other.loss_rest = map(leaf, self.relabelled_losses)
        other.labels = draw(self.labels)
        self.last_relabelled = other
        return other


class Unread:
    """A half that a method with other needs must not look at."""

    def __getattr__(self, name):
        raise AssertionError(f'looked at {name} of a half it does not need')


class Fixed(nn.Module):
    """A model that sees the same in every half: a teacher by hand."""

    def __init__(self, features, logits):
        super().__init__()
        self.seen = Seen(features, logits)

    def forward(self, half):
        return self.seen


class FakeModel(nn.Module):
    """What a method's ``setup`` gets.

    With an entry in ``groups`` it passes for a model with an adapter.
    """

    def __init__(self, model=None, groups=None, task=None):
        super().__init__()
        self.model = model or nn.Linear(1, 1).double()
        self.groups = groups or {}
        self.task = task or SimpleNamespace(has_background=False)
        self.stock_config = {}


def taught(method, seed=9, rows=3, dim=6, num_classes=NUM_CLASSES):
    """Set a method up with a teacher by hand, and prepare it.

    Class 0 is to be forgotten, see :class:`TinyDataset`.

    Returns:
        Seen: What the teacher says of every half.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = Seen(
        *(
            torch.randn(rows, size, generator=generator, dtype=torch.double)
            for size in (dim, num_classes)
        )
    )
    # With groups, the teacher is the model itself.
    model = FakeModel(Fixed(*seen), groups=dict(a=[]))
    method.setup(model)
    method.prepare(model, TinyDataset('classification'))
    return seen


def leaf(value):
    value = torch.as_tensor(value, dtype=torch.double)
    return value.clone().requires_grad_()


def losses_of(method, forget, retain):
    """All parts of a method's loss."""
    return {
        name: value
        for part in method.losses(forget, retain)
        for name, value in part.items()
    }


def total(losses):
    """What is trained on."""
    return sum(value for key, value in losses.items() if 'loss' in key)


# Tiny real models -----------------------------------------------------------


def stock_config(task):
    """Config of a tiny ViT or Deformable-DETR; sets the default scope."""
    if task == 'detection':
        init_default_scope('mmdet')
        return tiny_detector_config('deformable_detr', NUM_CLASSES).to_dict()
    init_default_scope('mmpretrain')
    return tiny_classifier_config('vit', NUM_CLASSES).to_dict()


def tiny_model(task, method, adapter=LORA, seed=0):
    """A ForgettingModel at the start of a step, made as in a real one.

    Args:
        task: ``'classification'`` or ``'detection'``.
        method: Config of the method.
        adapter: Config of the adapter, or None. As its B is still 0, only B
            gets a gradient; ``tests.test_lora.helpers.perturb`` changes it.
        seed: Of the weights in the step's checkpoint, and of the adapter.

    Returns:
        ForgettingModel: In training mode.
    """
    config = stock_config(task)
    torch.manual_seed(seed)
    stock = MODELS.build(copy.deepcopy(config))
    with no_info():
        stock.init_weights()
    if task == 'classification':
        randomise(stock, seed)  # mmpretrain's heads start at 0
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/stock.pth'
        torch.save(stock.state_dict(), path)
        return ForgettingModel(
            config,
            dict(type=f'gslora_mm.{task.capitalize()}Task'),
            method,
            adapter,
            checkpoint=path,
        ).train()


def tiny_batch(task, role=None, num_images=4, seed=0):
    """Random images: every second one to forget, or all of one role."""
    images = random_batch if task == 'detection' else random_images
    batch = images(num_images=num_images, seed=seed)
    for i, sample in enumerate(batch['data_samples']):
        own = ('forget', 'retain')[i % 2]
        sample.set_metainfo(dict(role=role or own))
    return batch


class TinySubset(SimpleNamespace):
    """One half of a :class:`TinyDataset`."""

    def __len__(self):
        return self.size


class TinyDataset:
    """Replay images as ForgetRetainDataset gives them, for ``prepare``.

    Two images to forget, of class 0, and three to retain, of classes 1
    and 3. ``asked`` lists the indices that were read.
    """

    metainfo = dict(classes=tuple('abcd'))
    cumulative_sizes = (2, 5)
    labels = dict(forget=[0], retain=[1, 3])

    def __init__(self, task):
        first, end = self.cumulative_sizes
        sizes = dict(forget=first, retain=end - first)
        self.datasets = [
            TinySubset(
                role=role,
                size=sizes[role],
                labels=np.array(labels),
                class_counts={self.metainfo['classes'][k]: 1 for k in labels},
            )
            for role, labels in self.labels.items()
        ]
        batch = tiny_batch(task, num_images=5, seed=7)
        self.inputs, self.samples = batch['inputs'], batch['data_samples']
        self.asked = []
        for i, sample in enumerate(self.samples):
            role = 'forget' if i < 2 else 'retain'
            labels = self.labels[role]
            sample.set_metainfo(dict(role=role))
            if task == 'classification':
                sample.set_gt_label(labels[i % len(labels)])
            else:
                objects = sample.gt_instances
                objects.labels = torch.tensor(
                    [labels[k % len(labels)] for k in range(len(objects))]
                )

    def __getitem__(self, item):
        index, _ = item
        self.asked.append(index)
        return dict(
            inputs=self.inputs[index],
            data_samples=copy.deepcopy(self.samples[index]),
        )


class WithoutForget(TinyDataset):
    """A TinyDataset without an image to forget."""

    cumulative_sizes = (0, 5)


def train(model, batch, iterations=1, lr=1e-3):
    """Train a few iterations; gives the log of the last one.

    With ``lr=0`` and one iteration it measures, whatever was before: random
    numbers are those of the iteration.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(parameters, lr=lr))
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        model.method.iteration = iteration
        log = model.train_step(copy.deepcopy(batch), wrapper)
        model.method.after_update(wrapper.optimizer)
    return log


def moved(model):
    """The model after an update of all that is trained."""
    if model.groups:
        perturb(model.model)
    else:
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.mul_(1.1)
    return model


def before_and_after(name, task, adapter, key, lr=1e-5, **settings):
    """What a method logs as ``key`` off its teacher, and trained from there.

    Its ``settings`` should let what is measured outweigh all other losses.
    """
    method = dict(type=f'gslora_mm.{name}', **settings)
    model = tiny_model(task, method, adapter)
    model.method.prepare(model, TinyDataset(task))
    moved(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # noise to the difference that is measured
    batch = tiny_batch(task)
    before = train(model, batch, lr=0)[key].item()
    train(model, batch, 6, lr)
    return before, train(model, batch, lr=0)[key].item()


# Softmax regression, whose gradients can be written down -------------------


class Regression(FakeModel):
    """A linear classifier in float64.

    A dropout behind it tells evaluation mode from training mode.

    Args:
        adapter: Whether the layer gets one of rank 2, B = 0.
    """

    def __init__(self, adapter=False):
        torch.manual_seed(0)
        linear = nn.Linear(5, NUM_CLASSES).double()
        super().__init__(
            nn.Sequential(linear, nn.Dropout()),
            task=SimpleNamespace(has_background=False, read=read_regression),
        )
        if adapter:
            inject_lora(self.model, rank=2, target='0')
            self.groups = lora_groups(self.model)

    def image_gradients(self, residual):
        """Gradients of single images by the weights, written down.

        Args:
            residual: Gives the gradient by the scores z (4, ) for z and the
                label.

        Returns:
            Tensor: Of the retain images of :class:`RegressionDataset`, (3,
            24); the bias comes last.
        """
        layer, dataset = self.model[0], RegressionDataset()
        weight, bias = (p.detach() for p in list(layer.parameters())[:2])
        rows = []
        for x, label in zip(
            dataset.inputs[2:], dataset.samples[2:], strict=True
        ):
            r = residual(weight @ x + bias, label)
            rows.append(torch.cat([torch.outer(r, x).flatten(), r]))
        return torch.stack(rows)


def read_regression(model, batch):
    logits = model(torch.stack(batch['inputs']))
    labels = torch.tensor(batch['data_samples'])
    loss = nn.functional.cross_entropy(logits, labels)
    return SimpleNamespace(loss=loss, logits=logits)


def of_cross_entropy(z, label):
    """Gradient of the cross entropy by the scores."""
    one_hot = torch.eye(NUM_CLASSES, dtype=z.dtype)[label]
    return z.softmax(0) - one_hot


class RegressionDataset(TinyDataset):
    """Two images to forget and three to retain, for :class:`Regression`."""

    def __init__(self):
        super().__init__('classification')
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(
            5, 5, generator=generator, dtype=torch.double
        )
        self.samples = [0, 0, 1, 3, 1]
