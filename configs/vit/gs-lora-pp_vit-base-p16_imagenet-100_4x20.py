# 80 of ImageNet's 1,000 classes are forgotten in four steps of twenty, with
# 5 % of the images of ImageNet-100 (GS-LoRA++).
_base_ = './gs-lora_vit-base-p16_imagenet-100_4x20.py'
# The published scripts push only, and average the adapter's weights.
method = dict(type='gslora_mm.GSLoRAPP', form='published', w_f=0.05, w_r=0.0)
schedule = dict(
    hooks=[dict(type='gslora_mm.AdapterEMAHook', decay=0.9, begin_epoch=30)])
