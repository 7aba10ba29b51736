# GS-LoRA++, as in the mini config, in shorter steps.
_base_ = '../../mini/gs-lora-pp_deformable-detr_mini-coco_3x2.py'
schedule = dict(max_iters=200, param_scheduler=dict(milestones=[133]))
