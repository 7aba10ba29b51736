# COCO in seven steps of ten categories, 10 % of the images (GS-LoRA++).
_base_ = './gs-lora_deformable-detr_r50_coco_7x10.py'
# The published scripts push only.
method = dict(type='gslora_mm.GSLoRAPP', form='published', w_r=0.0)
