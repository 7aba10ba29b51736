# SCRUB (NeurIPS 2023): passes over the forget images, away from the model
# before the step, in turn with passes over the retain images, to it. A step
# has to be longer than the epochs of msteps.
method = dict(
    type='gslora_mm.SCRUB',
    alpha=0.5,  # weight of the distillation on retain images
    gamma=1.0,  # weight of their own loss
    temperature=2.0,  # T
    msteps=3)  # epochs with a pass over the forget images
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
