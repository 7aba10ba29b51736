# For NoiseAndDistil: all weights, damaged ones. Half of the iterations that
# training took is a place to begin; these are half of mini_coco's.
schedule = dict(
    max_iters=750,
    batch_size=16,  # 8 forget and 8 retain images
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
        clip_grad=dict(max_norm=0.5, norm_type=2)),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, end=75),
        dict(type='CosineAnnealingLR', begin=75, eta_min=1e-5)
    ])
