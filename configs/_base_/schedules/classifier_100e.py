# The papers' schedule for classifiers: 100 passes over the retain images, 48
# forget and 48 retain images an iteration (their two loaders' batches).
schedule = dict(
    max_epochs=100,
    batch_size=96,
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05)),
    param_scheduler=dict(type='CosineAnnealingLR', eta_min=1e-5))
