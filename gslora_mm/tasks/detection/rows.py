import inspect
from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn

from ..object_rows import ObjectRows, recorded
from .queries import asked_queries

#: A box with this IoU shows the object.
SAME_PLACE = 0.5


def layer_depths(model: nn.Module) -> dict[str, nn.Module]:
    """Encoder and decoder layers by depth, such as ``'encoder.0'``."""
    return {
        f'{part}.{number}': layer
        for part in ('encoder', 'decoder')
        for number, layer in enumerate(getattr(model, part).layers)
    }


def head_outputs(head: nn.Module, found: dict) -> tuple[Tensor, Tensor]:
    """Scores and boxes that a head gives for each decoder layer.

    Args:
        head (nn.Module): A ``DETRHead`` of mmdet.
        found (dict): What ``forward_transformer`` gave.

    Returns:
        tuple[Tensor, Tensor]: Shapes (layers, n, queries, columns) and
        (layers, n, queries, 4), normalised (cx, cy, w, h).
    """
    names = inspect.signature(head.forward).parameters
    scores, boxes = head(**{name: found[name] for name in names})[:2]
    return scores, boxes


def neck_tokens(maps: Sequence[Tensor]) -> Tensor:
    """Cells of all feature maps, (N, C, h, w) each, as (N, cells, C)."""
    return torch.cat([each.flatten(2) for each in maps], 2).transpose(1, 2)


def detection_rows(model: nn.Module, batch: dict) -> ObjectRows:
    """Read the annotated objects of a batch at several depths.

    Depths are the neck, each encoder layer (both averaged over the cells in
    the object's box) and each decoder layer, of the query whose last box
    overlaps the object most: what somebody finds who knows where the object
    is, and not what it is. (The query that matching pairs it with is chosen
    with the class in hand.)

    Args:
        model (nn.Module): A ``DetectionTransformer`` of mmdet, in evaluation
            mode.
        batch (dict): A batch of a data loader; boxes in pixels of the input.
    """
    data = model.data_preprocessor(batch, training=False)
    inputs, samples = data['inputs'], data['data_samples']
    depths = layer_depths(model)
    with recorded(depths) as outputs:
        maps = model.extract_feat(inputs)
        found = model.forward_transformer(maps, samples)
    # After a norm, where the decoder has one.
    outputs[list(depths)[-1]] = found['hidden_states'][-1]
    head = model.bbox_head
    scores, boxes = (each[-1] for each in head_outputs(head, found))

    is_sigmoid = head.loss_cls.use_sigmoid
    probabilities = scores.sigmoid() if is_sigmoid else scores.softmax(-1)
    columns = slice(head.num_classes)
    put_out = asked_queries(head, boxes.shape[1]).is_distinct
    if put_out is None:
        put_out = boxes.new_ones(boxes.shape[:2], dtype=torch.bool)
    neck = neck_tokens(maps)
    parts = []
    for image, sample in enumerate(samples):
        truth = sample.gt_instances
        if not len(truth):
            continue
        targets = torch.as_tensor(
            getattr(truth.bboxes, 'tensor', truth.bboxes), device=boxes.device
        )
        queries = put_out[image].nonzero().flatten()
        overlaps = bbox_overlaps(
            targets, _corners(boxes[image, queries], sample.img_shape)
        )
        query = queries[overlaps.argmax(1)]
        labels = truth.labels.to(boxes.device)
        scored = probabilities[image, queries, columns]
        of_any = scored.amax(1)
        most = model.test_cfg.get('max_per_img', len(scored))
        ranked = scored.flatten().topk(min(most, scored.numel()))
        is_shown = scored >= ranked.values[-1]
        is_there = overlaps >= SAME_PLACE
        cells = {
            level: _cells_in(targets, maps[-level:], inputs.shape[-2:])
            for level in {1, len(maps)}
        }
        features = {'neck': cells[len(maps)] @ neck[image]}
        for name in depths:
            rows = outputs[name][image]
            if name.startswith('decoder'):
                features[name] = rows[query]
                continue
            # Of a single level are the encoders of DETR and its kin.
            is_whole = len(rows) == neck.shape[1]
            features[name] = cells[len(maps) if is_whole else 1] @ rows
        parts.append(
            ObjectRows(
                labels,
                features,
                scores[image, query, columns],
                probabilities[image, query, columns],
                (of_any * is_there).amax(1),
                (is_there & is_shown[:, labels].T).any(1),
            )
        )
    if not parts:
        channels = {name: rows.shape[-1] for name, rows in outputs.items()}
        channels = {'neck': neck.shape[-1], **channels}
        empty = scores.new_zeros
        return ObjectRows(
            empty(0, dtype=torch.long),
            {name: empty(0, width) for name, width in channels.items()},
            empty(0, head.num_classes),
            empty(0, head.num_classes),
            empty(0),
            empty(0, dtype=torch.bool),
        )
    return ObjectRows.concatenate(parts)


def _corners(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Boxes in pixels, (x1, y1, x2, y2).

    Args:
        boxes (Tensor): Normalised (cx, cy, w, h), shape (queries, 4).
        shape (Sequence[int]): Height and width of the image.
    """
    centers, sizes = boxes.split(2, dim=1)
    corners = torch.cat([centers - sizes / 2, centers + sizes / 2], 1)
    height, width = shape[:2]
    return corners * corners.new_tensor([width, height, width, height])


def _cells_in(
    boxes: Tensor, maps: Sequence[Tensor], size: Sequence[int]
) -> Tensor:
    """Weights of an average over the cells whose centres are in a box.

    Args:
        boxes (Tensor): In pixels, (x1, y1, x2, y2), shape (objects, 4).
        maps (Sequence[Tensor]): Feature maps, (N, C, h, w) each.
        size (Sequence[int]): Height and width of the batch's input.

    Returns:
        Tensor: Shape (objects, cells of all maps); the nearest cells alone
        if no centre is inside.
    """
    centers = torch.cat([_centers(each, size) for each in maps])
    left_top, right_bottom = boxes[:, None, :2], boxes[:, None, 2:]
    inside = (centers >= left_top) & (centers <= right_bottom)
    inside = inside.all(-1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = torch.cdist(middle, centers)
    nearest = distance == distance.amin(1, keepdim=True)
    weights = torch.where(inside.any(1, keepdim=True), inside, nearest)
    weights = weights.to(boxes)
    return weights / weights.sum(1, keepdim=True)


def _centers(feature_map: Tensor, size: Sequence[int]) -> Tensor:
    """Centres (x, y) of the cells of a map in pixels, shape (h * w, 2)."""
    height, width = feature_map.shape[-2:]
    y = (torch.arange(height, device=feature_map.device) + 0.5) / height
    x = (torch.arange(width, device=feature_map.device) + 0.5) / width
    y, x = torch.meshgrid(y * size[0], x * size[1], indexing='ij')
    return torch.stack([x.flatten(), y.flatten()], 1)
