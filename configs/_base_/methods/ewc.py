# EWC (PNAS 2017): wrong labels for what is to be forgotten, replay, and a pull
# to the weights that the step began with, by their Fisher information.
method = dict(
    type='gslora_mm.EWC',
    beta=1.0,  # weight of the forget half; a list has one value for each step
    weight=100.0)  # lambda: weight of the pull
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
