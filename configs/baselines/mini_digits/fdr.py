# FDR, all weights.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/fdr.py',
    '../../_base_/schedules/mini_classifier_full.py',
]
method = dict(alpha=10.0)
