# The demo with GS-LoRA++: prototypes are the rows of the last class layer.
_base_ = './gs-lora_deformable-detr_mini-coco_3x2.py'
method = dict(type='gslora_mm.GSLoRAPP', form='published', w_r=0.005)
