# Level "weights": 80 of 100 people forgotten in four steps, so that
# fine-tuning brings them back hardly sooner than in a model that never
# learned them. Each step goes half as often around what is retained as the
# pre-training did.
_base_ = [
    './face-transformer_mini-faces.py',
    '../_base_/sequences/mini_faces_4x20.py',
    '../_base_/levels/weights_classifier.py',
]
forgetting = dict(retain_share=1.0, forget_share=1.0)
# Of single iterations, as its figures in docs/en/depth.md were measured.
schedule = dict(param_scheduler=[
    dict(type='LinearLR', start_factor=0.04, end=300),
    dict(type='CosineAnnealingLR', begin=300, eta_min=1e-5)
])
