# COCO in seven steps of ten categories, 10 % of the images (GS-LoRA).
_base_ = [
    'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    '../_base_/sequences/coco_7x10.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/coco_30e.py',
]
forgetting = dict(
    pretrained='https://download.openmmlab.com/mmdetection/v3.0/'
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco/'
    'deformable-detr_r50_16xb2-50e_coco_20221029_210934-6bc7d21b.pth')
method = dict(
    beta=[0.15, 0.15, 0.35, 0.6, 0.15, 0.2, 0.2], bound=15.0, alpha_s=3e-4)
