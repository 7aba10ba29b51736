# FDR, all weights.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/fdr.py',
    '../../_base_/schedules/mini_full.py',
]
method = dict(beta=0.1, alpha=10.0)
# All queries count: an object that becomes background is matched to none.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='all',
)
