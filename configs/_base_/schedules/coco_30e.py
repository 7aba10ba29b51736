# The papers' schedule on COCO: 30 passes over the retain images with 16 + 16
# images a batch, here as 2 + 2 on each of 8 GPUs.
schedule = dict(
    max_epochs=30,
    batch_size=4,
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=3e-4, weight_decay=1e-4),
        clip_grad=dict(max_norm=0.1, norm_type=2)))
