# SCRUB-S: SCRUB (NeurIPS 2023) with smoothing, that is, held to a slow average
# of its own weights. A step has to be longer than the epochs of msteps.
method = dict(
    type='gslora_mm.SCRUBS',
    alpha=0.5,  # weight of the distillation on retain images
    gamma=1.0,  # weight of their own loss
    temperature=2.0,  # T
    msteps=3,  # epochs with a pass over the forget images
    smoothing=0.1,  # weight of the distance to the average
    decay=0.9)  # of the average, from one epoch to the next
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
