# For CounterfactualDistillation with a LoRA on all linear layers.
schedule = dict(
    max_iters=300,
    batch_size=16,  # 8 forget and 8 retain images
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4),
        clip_grad=dict(max_norm=1.0, norm_type=2)),
    param_scheduler=dict(type='CosineAnnealingLR', eta_min=1e-5))
