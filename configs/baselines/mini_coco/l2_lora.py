# L2, of what a LoRA does to the weights.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/tasks/matched_queries.py',
    '../../_base_/methods/l2.py',
    '../../_base_/schedules/mini_short.py',
]
adapter = dict(
    _delete_=True,
    rank=8,
    alpha=1.0,
    dropout=0.0,
    target='ffn',
    group_by='block',
)
