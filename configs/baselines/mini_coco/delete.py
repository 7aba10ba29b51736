# DELETE, all weights, no retain images.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/delete.py',
    '../../_base_/schedules/mini_full.py',
]
schedule = dict(optim_wrapper=dict(optimizer=dict(lr=1e-4)))
