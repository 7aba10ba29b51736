# 300 iterations a step: well under a minute for a mini classifier.
schedule = dict(
    max_iters=300,
    batch_size=48,  # 24 forget and 24 retain images
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05)),
    param_scheduler=dict(type='CosineAnnealingLR', eta_min=1e-5))
