# GS-LoRA++, as in the mini config.
_base_ = '../../mini/gs-lora-pp_face-transformer_mini-faces_4x20.py'
