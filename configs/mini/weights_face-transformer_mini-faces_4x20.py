# Level "weights": 80 of 100 people forgotten in four steps, so that
# fine-tuning brings them back hardly sooner than in a model that never
# learned them. Each step goes half as often around what is retained as the
# pre-training did.
_base_ = [
    './face-transformer_mini-faces.py',
    '../_base_/sequences/mini_faces_4x20.py',
    '../_base_/levels/weights.py',
]
forgetting = dict(retain_share=1.0, forget_share=1.0)
schedule = dict(
    max_iters=None,
    max_epochs=16,
    batch_size=32,
    optim_wrapper=dict(optimizer=dict(lr=1e-3)))
# More than by default: of those who go last, features that were trained on
# others who went before still tell much.
method = dict(noise=0.8)
