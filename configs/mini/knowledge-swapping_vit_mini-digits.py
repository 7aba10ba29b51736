# Two digits are learned and six forgotten in three steps, by a small ViT that
# was pre-trained on the other eight (./vit_mini-digits_8-classes.py).
_base_ = [
    './vit_mini-digits.py',
    '../_base_/sequences/mini_digits_3x2.py',
    '../_base_/methods/knowledge_swapping.py',
    '../_base_/schedules/mini_classifier.py',
]
forgetting = dict(
    pretrained='work_dirs/mini_digits_8/pretrain/pretrained.pth',
    learn=[['eight'], ['nine'], []])
method = dict(
    bound=10.0,
    alpha_s=3e-4,  # as for GS-LoRA on these data
    learn_share=[0.5, 0.5, 0.0])
