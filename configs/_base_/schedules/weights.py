# For NoiseAndDistil: all weights, damaged ones. Half of the images that
# training saw is a place to begin; these are half of mini_coco's. Small
# batches, of which most are images to retain: these show what is to be
# forgotten as well, and are the ones with labels.
schedule = dict(
    max_iters=1500,
    batch_size=8,
    forget_ratio=0.25,
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
        clip_grad=dict(max_norm=2.0, norm_type=2)),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, end=150),
        dict(type='CosineAnnealingLR', begin=150, eta_min=1e-5)
    ])
