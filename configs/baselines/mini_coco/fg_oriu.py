# FG-OrIU, on a LoRA.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/fg_oriu.py',
    '../../_base_/schedules/mini_short.py',
]
# As in the demo: only the objects' own queries lose their class.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='matched',
)
method = dict(bound=4.0)  # as GS-LoRA's, where beta is not 0
