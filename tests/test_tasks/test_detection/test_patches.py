import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

from gslora_mm.tasks.detection.patches import without_focus


def test_quality_focal_loss_has_no_focus_on_what_becomes_background():
    loss = MODELS.build(dict(type='QualityFocalLoss', beta=2.0))
    logits, labels = torch.randn(3, 4), torch.full((3,), 4)
    targets = (labels, torch.zeros(3))
    with without_focus(loss):
        found = loss(logits, targets)
    torch.testing.assert_close(found, F.softplus(logits).sum() / 3)
    assert loss(logits, targets) < found
