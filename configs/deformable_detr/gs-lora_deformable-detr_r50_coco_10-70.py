# COCO in a single step: 70 categories are forgotten, 10 stay.
_base_ = './gs-lora_deformable-detr_r50_coco_7x10.py'
forgetting = dict(steps=dict(num_steps=1, classes_per_step=70))
method = dict(beta=0.15)
