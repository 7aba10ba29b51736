# For CounterfactualDistillation with a LoRA on all linear layers.
_base_ = './mini.py'
schedule = dict(
    optim_wrapper=dict(clip_grad=dict(max_norm=1.0)),
    param_scheduler=dict(
        _delete_=True, type='CosineAnnealingLR', eta_min=1e-5))
