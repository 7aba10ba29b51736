# CASIA-100 in four steps of twenty people, 10 % of the images (GS-LoRA++).
_base_ = './gs-lora_face-transformer_casia-100_4x20.py'
# The published scripts push only, and average the adapter's weights.
method = dict(type='gslora_mm.GSLoRAPP', form='published', w_f=0.01, w_r=0.0)
schedule = dict(
    hooks=[dict(type='gslora_mm.AdapterEMAHook', decay=0.9, begin_epoch=30)])
