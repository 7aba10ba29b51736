"""CosFace: formula, margin in training only, checkpoints, precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gslora_mm  # noqa: F401  (makes a mismatched torchvision importable)
from gslora_mm.models import ArcFaceEmbeddingHead, CosFaceClsHead
from gslora_mm.registry import MODELS
from gslora_mm.utils import ConfigError

from mmpretrain.models import ArcFaceClsHead  # isort: skip
from mmpretrain.structures import DataSample  # isort: skip


def make_head(**settings):
    torch.manual_seed(0)
    return CosFaceClsHead(**{'num_classes': 5, 'in_channels': 8, **settings})


def make_samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


def reference(head, x, labels=None):
    """``s (cos - m [j = y])`` in float64, written out."""
    x, weight = x.double(), head.norm_product.weight.double()
    cosines = x @ weight.T / (x.norm(dim=1)[:, None] * weight.norm(dim=1))
    if labels is not None:
        for row, label in enumerate(labels):
            cosines[row, label] -= head.margins[label].double()
    return head.scale * cosines


@pytest.fixture
def x():
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(1))


LABELS = [0, 1, 2, 3, 4, 0]


def test_loss_is_the_formula(x):
    head = make_head()
    loss = head.loss((x,), make_samples(LABELS))['loss']
    expected = F.cross_entropy(
        reference(head, x, LABELS), torch.tensor(LABELS)
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert head.scale == 64.0
    torch.testing.assert_close(head.margins, torch.full((5,), 0.35))


def test_margins_of_the_classes(x):
    head = make_head(margins=[0.0, 0.1, 0.2, 0.3, 0.4], scale=10)
    logits = head((x,), torch.tensor(LABELS))
    torch.testing.assert_close(
        logits.double(), reference(head, x, LABELS), atol=1e-5, rtol=1e-5
    )
    head.set_margins(0.0)
    torch.testing.assert_close(head((x,), torch.tensor(LABELS)), head((x,)))


def test_predictions_do_not_depend_on_the_true_label(x):
    """The margin at test time made published accuracies too low."""
    head = make_head(scale=4.0).eval()
    # images just nearer to their own class than to another
    nn.init.eye_(head.norm_product.weight)
    weight = head.norm_product.weight.detach()
    images = weight + 0.9 * weight.roll(1, 0)
    own = list(range(5))
    told = head.predict((images,), make_samples(own))
    untold = head.predict((images,), [DataSample() for _ in own])
    wrong = head.predict((images,), make_samples([4, 3, 0, 1, 2]))
    new = head.predict((images,))
    for samples in (untold, wrong, new):
        for sample, expected in zip(samples, told, strict=True):
            assert torch.equal(sample.pred_score, expected.pred_score)
            assert torch.equal(sample.pred_label, expected.pred_label)
    torch.testing.assert_close(
        torch.stack([sample.pred_score for sample in told]),
        reference(head, images).softmax(1).float(),
    )
    # With the margin, these images would change their class.
    assert [sample.pred_label.item() for sample in told] == own
    with_margin = head((images,), torch.tensor(own)).argmax(1)
    assert (with_margin != torch.tensor(own)).all()


def test_checkpoints_are_those_of_the_stock_head(x):
    head = make_head(scale=30.0)
    stock = ArcFaceClsHead(num_classes=5, in_channels=8, scale=30.0)
    assert list(head.state_dict()) == list(stock.state_dict())
    stock.load_state_dict(head.state_dict(), strict=True)
    torch.testing.assert_close(stock((x,)), head((x,)))


def test_cosines_are_in_full_precision_under_autocast(x):
    head = make_head()
    samples = make_samples(LABELS)
    rounded = x.bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        logits = head((rounded,))
        loss = head.loss((rounded,), samples)['loss']
    assert logits.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(
        logits.double(), reference(head, rounded), atol=1e-4, rtol=1e-5
    )
    loss.backward()
    assert rounded.grad.any() and head.norm_product.weight.grad.any()


@pytest.mark.parametrize('cls', [CosFaceClsHead, ArcFaceEmbeddingHead])
def test_predictions_carry_the_embedding(cls, x):
    head = MODELS.build(
        dict(type=f'gslora_mm.{cls.__name__}', num_classes=5, in_channels=8)
    )
    x.requires_grad_()
    for sample, row in zip(head.predict((x,)), x, strict=True):
        assert torch.equal(sample.embedding, row)
        assert not sample.embedding.requires_grad
        assert sample.to_dict()['embedding'].dtype == torch.float32


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(scale=0), 'model.head.scale = 0'),
        (dict(scale=True), 'model.head.scale = True'),
        (dict(margins=-0.1), 'model.head.margins = -0.1'),
        (dict(margins=[0.1] * 4), 'list of 5 such numbers'),
        (dict(margins='0.35'), "model.head.margins = '0.35'"),
        (dict(margins=None), 'model.head.margins = None'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**settings)


def test_gradients_reach_embeddings_and_weights_exactly():
    head = make_head(scale=5.0).double()
    x = torch.randn(3, 8, dtype=torch.double, requires_grad=True)
    target = torch.tensor([0, 3, 4])

    def logits(x, weight):
        with torch.no_grad():
            assert weight.shape == head.norm_product.weight.shape
        return torch.func.functional_call(
            head, {'norm_product.weight': weight}, ((x,), target)
        )

    weight = head.norm_product.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(logits, (x, weight))


def test_is_a_stock_head():
    assert isinstance(make_head(), ArcFaceClsHead)
    assert isinstance(make_head().norm_product, nn.Linear)
