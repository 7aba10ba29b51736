# COCO in seven steps of ten categories, 32 images for each category.
_base_ = './gs-lora_deformable-detr_r50_coco_7x10.py'
forgetting = dict(retain_share=None, forget_share=None, shots=32)
