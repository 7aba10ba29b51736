# 80 of ImageNet's 1,000 classes are forgotten in four steps of twenty, with
# 5 % of the images of ImageNet-100 (GS-LoRA). The 900 other classes have no
# replay images; their accuracy is reported (`missing`).
_base_ = [
    'mmpretrain::_base_/models/vit-base-p16.py',
    '../_base_/datasets/imagenet_100.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/sequences/4x20_of_100.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/classifier_100e.py',
]
# torchvision's ViT-B/16: no dropout, no label smoothing.
model = dict(
    backbone=dict(drop_rate=0.0, init_cfg=None),
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss', loss_weight=1.0)))
forgetting = dict(
    pretrained='work_dirs/imagenet_100/pretrained.pth',
    retain_share=0.05,
    forget_share=0.05,
    missing='rest')
method = dict(beta=[0.2, 0.25, 0.25, 0.25], bound=105.0, alpha_s=1e-4)
