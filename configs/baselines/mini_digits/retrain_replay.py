# Retraining on the replay images alone. As they are fewer, each is seen more
# often: as many iterations as on all images.
_base_ = [
    '../../mini/vit_mini-digits.py',
    '../../_base_/sequences/mini_digits_3x2.py',
    '../../_base_/methods/retrain.py',
]
schedule = dict(
    max_epochs=88,
    batch_size=96,
    optim_wrapper={{_base_.optim_wrapper}},
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, end=100),
        dict(type='CosineAnnealingLR', eta_min=1e-6),
    ],
)
