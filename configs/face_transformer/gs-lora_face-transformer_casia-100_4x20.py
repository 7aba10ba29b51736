# CASIA-100 in four steps of twenty people, 10 % of the images (GS-LoRA).
_base_ = [
    '../_base_/models/face_transformer.py',
    '../_base_/datasets/casia_100.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/sequences/4x20_of_100.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/classifier_100e.py',
]
forgetting = dict(pretrained='work_dirs/casia_100/pretrain/pretrained.pth')
method = dict(beta=[0.2, 0.25, 0.25, 0.2], bound=105.0, alpha_s=1e-4)
# Identification and, in the same pass, verification.
val_evaluator = [
    dict(type='Accuracy', topk=(1, 5)),
    dict(type='gslora_mm.FaceVerification', pairs='data/casia_100/pairs.txt')
]
test_evaluator = val_evaluator
