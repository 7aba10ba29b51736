# CASIA-100 in four steps, without a single image of five people who are to be
# kept (GS-LoRA++).
_base_ = './gs-lora_face-transformer_casia-100_4x20_missing.py'
method = dict(type='gslora_mm.GSLoRAPP', form='published', w_f=3e-4, w_r=0.0)
