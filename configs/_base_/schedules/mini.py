# 300 iterations a step: about a minute for the mini detector on two cores.
# The learning rate falls once the categories are gone, to repair the rest.
schedule = dict(
    max_iters=300,
    batch_size=16,  # 8 forget and 8 retain images
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4),
        clip_grad=dict(max_norm=0.1, norm_type=2)),
    param_scheduler=dict(type='MultiStepLR', milestones=[200], gamma=0.1))
