"""Images with objects painted over."""

import pytest
import torch

from gslora_mm.tasks.detection.painting import MARGIN, painted_over

NOTHING = [torch.zeros(0, 4), torch.zeros(0, 4)]


@pytest.mark.parametrize('size', [(40, 60), (300, 520)])
def test_fills_boxes_from_what_is_around_them(size):
    height, width = size
    ramp = torch.linspace(-2, 2, width).expand(3, height, width).clone()
    clean = torch.stack([ramp, ramp])
    inputs = clean.clone()
    inputs[0, :, 12:22, 20:30] = 40  # an object, far off all else
    boxes = [torch.tensor([[20.0, 12.0, 30.0, 22.0]]), torch.zeros(0, 4)]
    found = painted_over(inputs, boxes, NOTHING)
    assert torch.equal(found[1], inputs[1])
    hole = torch.zeros(height, width, dtype=torch.bool)
    hole[12 - MARGIN : 22 + MARGIN, 20 - MARGIN : 30 + MARGIN] = True
    assert torch.equal(found[0][:, ~hole], inputs[0][:, ~hole])
    # In steps of 1/255 of the range of the image, which the object makes.
    assert (found[0] - clean[0])[:, hole].abs().max() < 0.6


def test_boxes_at_the_border_and_over_all():
    inputs = torch.rand(2, 3, 20, 20)
    boxes = torch.tensor([[[-3.0, -3, 5, 5]], [[0.0, 0, 20, 20]]])
    found = painted_over(inputs, boxes, NOTHING)
    assert found.isfinite().all()
    assert not torch.equal(found[0], inputs[0])
    assert torch.equal(found[1], inputs[1])  # nothing is around it


def test_other_objects_stay_whole():
    inputs = torch.rand(1, 3, 30, 30)
    spared = [torch.tensor([[12.0, 8.0, 20.0, 14.0]])]
    found = painted_over(inputs, [torch.tensor([[5.0, 5, 15, 15]])], spared)
    assert torch.equal(found[..., 8:14, 12:20], inputs[..., 8:14, 12:20])
    assert not torch.equal(found[..., 5:15, 5:12], inputs[..., 5:15, 5:12])
