# FG-OrIU, on a LoRA.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/tasks/matched_queries.py',
    '../../_base_/methods/fg_oriu.py',
    '../../_base_/schedules/mini_short.py',
]
method = dict(bound=4.0)  # as GS-LoRA's, where beta is not 0
