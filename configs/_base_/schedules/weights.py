# For NoiseAndDistil: all weights, damaged ones. Half of the images that
# training saw is a place to begin; these are half of mini_coco's. In small
# batches, as it is iterations that are needed, of which most are images to
# retain: a detector's show what is to be forgotten as well, and are the ones
# with labels.
schedule = dict(
    max_iters=3000,
    batch_size=4,
    forget_ratio=0.25,
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1.5e-3, weight_decay=1e-4),
        clip_grad=dict(max_norm=2.0, norm_type=2)),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, end=300),
        dict(type='CosineAnnealingLR', begin=300, eta_min=1e-5)
    ])
