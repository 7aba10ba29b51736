# Gradient ascent (NegGrad), all weights, no retain images.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/gradient_ascent.py',
    '../../_base_/schedules/mini_classifier_full.py',
]
# Cosine annealing to 0: the usual 1e-5 is not below what is tried here.
schedule = dict(
    optim_wrapper=dict(optimizer=dict(lr=3e-5)),
    param_scheduler=dict(eta_min=0),
)
