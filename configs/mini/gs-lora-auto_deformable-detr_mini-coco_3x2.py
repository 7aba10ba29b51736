# The demo: a Deformable-DETR forgets six of ten categories in three steps,
# with settings that find themselves.
_base_ = [
    './deformable-detr_mini-coco.py',
    '../_base_/sequences/mini_coco_3x2.py',
    '../_base_/tasks/matched_queries.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/auto.py',
]
