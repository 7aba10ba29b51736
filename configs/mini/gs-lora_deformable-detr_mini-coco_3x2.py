# The demo: a Deformable-DETR forgets six of ten categories in three steps.
_base_ = [
    './deformable-detr_mini-coco.py',
    '../_base_/sequences/mini_coco_3x2.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/mini.py',
]
method = dict(beta=0.2, bound=4.0)
# Unlike the papers, because these images are full of objects that are not to
# be forgotten: see task.forget_queries in docs/en/configs.md.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='matched')
