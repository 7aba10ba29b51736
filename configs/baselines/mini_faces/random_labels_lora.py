# Random labels, on a LoRA.
_base_ = [
    '../../mini/face-transformer_mini-faces.py',
    '../../_base_/sequences/mini_faces_4x20.py',
    '../../_base_/methods/random_labels.py',
    '../../_base_/schedules/mini_classifier.py',
]
adapter = dict(
    _delete_=True,
    rank=8,
    alpha=1.0,
    dropout=0.0,
    target='ffn',
    group_by='block',
)
