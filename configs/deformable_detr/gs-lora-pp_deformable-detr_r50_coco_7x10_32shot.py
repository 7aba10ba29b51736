# COCO in seven steps of ten categories, 32 images a category (GS-LoRA++).
_base_ = './gs-lora-pp_deformable-detr_r50_coco_7x10.py'
forgetting = dict(retain_share=None, forget_share=None, shots=32)
