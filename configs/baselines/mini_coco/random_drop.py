# Random drop, all weights.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/random_drop.py',
    '../../_base_/schedules/mini_full.py',
]
task = dict(type='gslora_mm.DetectionTask', aux_loss=dict(retain=True))
