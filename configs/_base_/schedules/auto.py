# Settings that find themselves, whatever the model, the task and the method:
# batch size, learning rate, the weight of forgetting, the bound, and the end
# of a step. What is found stands in the step's config. docs/en/no_tuning.md
schedule = dict(
    max_iters=300,  # at most
    batch_size='own',  # that of the model's own training
    held_out=0.15,  # of the replay images, to look at
    optim_wrapper=dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', weight_decay=1e-4)),
    hooks=[dict(type='gslora_mm.AutoScheduleHook')])
