# GS-LoRA, as in the mini config.
_base_ = '../../mini/gs-lora_vit_mini-digits_3x2.py'
