# COCO in a single step: one category is forgotten, 79 stay.
_base_ = './gs-lora_deformable-detr_r50_coco_7x10.py'
forgetting = dict(steps=dict(num_steps=1, classes_per_step=1))
method = dict(beta=0.15)
