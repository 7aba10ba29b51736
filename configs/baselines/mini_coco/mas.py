# MAS, all weights.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/mas.py',
    '../../_base_/schedules/mini_full.py',
]
# As in the demo: only the objects' own queries lose their class.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='matched',
)
