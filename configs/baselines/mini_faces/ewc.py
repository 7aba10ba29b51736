# EWC, all weights.
_base_ = [
    '../../mini/face-transformer_mini-faces.py',
    '../../_base_/sequences/mini_faces_4x20.py',
    '../../_base_/methods/ewc.py',
    '../../_base_/schedules/mini_classifier_full.py',
]
