# FG-OrIU, on a LoRA.
_base_ = [
    '../../mini/face-transformer_mini-faces.py',
    '../../_base_/sequences/mini_faces_4x20.py',
    '../../_base_/methods/fg_oriu.py',
    '../../_base_/schedules/mini_classifier.py',
]
method = dict(bound=25.0)  # as GS-LoRA's, where beta is not 0
