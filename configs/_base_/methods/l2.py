# Wrong labels for what is to be forgotten, replay, and an even pull to the
# weights that the step began with.
method = dict(
    type='gslora_mm.L2',
    beta=1.0,  # weight of the forget half; a list has one value for each step
    weight=0.1)  # lambda: weight of the pull
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
