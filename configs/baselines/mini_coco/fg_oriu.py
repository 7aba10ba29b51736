# FG-OrIU, on a LoRA.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/fg_oriu.py',
    '../../_base_/schedules/mini_short.py',
]
# What the retain half learns is that of the demo.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
)
