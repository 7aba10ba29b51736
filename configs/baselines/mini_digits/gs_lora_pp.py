# GS-LoRA++.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/gs_lora_pp.py',
    '../../_base_/schedules/mini_classifier.py',
]
method = dict(bound=10.0, beta=0.2, w_f=0.01, w_r=5.0)
