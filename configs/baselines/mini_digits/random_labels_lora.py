# Random labels, on a LoRA.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
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
