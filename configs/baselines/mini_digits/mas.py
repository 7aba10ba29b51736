# MAS, all weights.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/mas.py',
    '../../_base_/schedules/mini_classifier_full.py',
]
