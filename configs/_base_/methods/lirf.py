# LIRF (ECCV 2022): wrong labels for the forget half, its features pushed away
# from those of the model before the step, its scores of other classes kept.
method = dict(
    type='gslora_mm.LIRF',
    beta=0.2,  # weight of the forget half; a list has one value for each step
    a=0.1,  # share of preservation against wrong labels
    w_kp=10.0,  # weight of the preservation
    w_at=0.6,  # weight of the push
    temperature=10.0)  # T
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
