# Random labels for what is to be forgotten, and replay ("Amnesiac Machine
# Learning", AAAI 2021); of a detector, the objects become background.
method = dict(
    type='gslora_mm.RandomLabels',
    beta=1.0)  # weight of the forget half; a list has one value for each step
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
