# A small ViT forgets six of ten digits in three steps.
_base_ = [
    './vit_mini-digits.py',
    '../_base_/sequences/mini_digits_3x2.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/mini_classifier.py',
]
method = dict(bound=10.0, beta=0.2)
