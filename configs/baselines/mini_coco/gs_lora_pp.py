# GS-LoRA++, as in the mini config.
_base_ = '../../mini/gs-lora-pp_deformable-detr_mini-coco_3x2.py'
