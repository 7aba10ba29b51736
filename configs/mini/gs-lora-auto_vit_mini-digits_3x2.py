# A small ViT forgets six of ten digits; settings find themselves.
_base_ = [
    './vit_mini-digits.py',
    '../_base_/sequences/mini_digits_3x2.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/auto.py',
]
