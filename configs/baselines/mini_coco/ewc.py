# EWC, all weights.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/tasks/matched_queries.py',
    '../../_base_/methods/ewc.py',
    '../../_base_/schedules/mini_full.py',
]
