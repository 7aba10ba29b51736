# DER++, all weights.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/der_pp.py',
    '../../_base_/schedules/mini_classifier_full.py',
]
