# COCO in a single step: 40 categories are forgotten, 40 stay.
_base_ = './gs-lora_deformable-detr_r50_coco_7x10.py'
forgetting = dict(steps=dict(num_steps=1, classes_per_step=40))
method = dict(beta=0.15)
