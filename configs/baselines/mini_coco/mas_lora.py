# MAS, of what a LoRA does to the weights.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/mas.py',
    '../../_base_/schedules/mini.py',
]
method = dict(beta=0.1)
adapter = dict(
    _delete_=True,
    rank=8,
    alpha=1.0,
    dropout=0.0,
    target='ffn',
    group_by='block',
)
# All queries count: an object that becomes background is matched to none.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='all',
)
