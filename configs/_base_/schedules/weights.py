# For NoiseAndDistil: all weights, damaged ones. Half of the epochs that the
# model was trained for is a place to begin. In small batches, as it is
# iterations that are needed, of which most are images to retain: a detector's
# show what is to be forgotten as well, and are the ones with labels.
schedule = dict(
    max_epochs='half',
    batch_size=4,
    forget_ratio=0.25,
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1.5e-3, weight_decay=1e-4),
        clip_grad=dict(max_norm=2.0, norm_type=2)),
    # Shares of a step.
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, end=0.1),
        dict(type='CosineAnnealingLR', begin=0.1, eta_min=1e-5)
    ])
