# FG-OrIU, on a LoRA.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/fg_oriu.py',
    '../../_base_/schedules/mini_classifier.py',
]
method = dict(bound=10.0)  # as GS-LoRA's, where beta is not 0
