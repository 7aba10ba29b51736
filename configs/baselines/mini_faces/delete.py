# DELETE, all weights, no retain images.
_base_ = [
    '../../mini/face-transformer_mini-faces.py',
    '../../_base_/sequences/mini_faces_4x20.py',
    '../../_base_/methods/delete.py',
    '../../_base_/schedules/mini_classifier_full.py',
]
schedule = dict(optim_wrapper=dict(optimizer=dict(lr=1e-4)))
