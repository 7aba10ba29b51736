# LwF (ECCV 2016): wrong labels for the forget half; the retain half is
# replayed, and its outputs held to those of the model before the step.
method = dict(
    type='gslora_mm.LwF',
    beta=0.1,  # weight of forgetting; a list has one value for each step
    alpha=1.0,  # weight of the distillation
    temperature=2.0)  # T
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
