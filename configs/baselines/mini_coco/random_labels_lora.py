# Random labels, on a LoRA.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/random_labels.py',
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
# As in the demo: only the objects' own queries lose their class.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='matched',
)
