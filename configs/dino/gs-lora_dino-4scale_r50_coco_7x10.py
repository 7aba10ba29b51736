# The same sequence for DINO: another detector is two lines.
_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    '../_base_/sequences/coco_7x10.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/coco_30e.py',
]
forgetting = dict(
    pretrained='https://download.openmmlab.com/mmdetection/v3.0/dino/'
    'dino-4scale_r50_8xb2-12e_coco/'
    'dino-4scale_r50_8xb2-12e_coco_20221202_182705-55b2bba2.pth')
