# MAS (ECCV 2018): wrong labels for what is to be forgotten, replay, and a pull
# to the weights that the step began with, by what the outputs owe them.
method = dict(
    type='gslora_mm.MAS',
    beta=1.0,  # weight of the forget half; a list has one value for each step
    weight=0.05)  # lambda: weight of the pull
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
