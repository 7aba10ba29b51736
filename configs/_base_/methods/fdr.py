# FDR (ICLR 2019): wrong labels for the forget half; the probabilities of the
# retain half are held to those of the model before the step.
method = dict(
    type='gslora_mm.FDR',
    beta=1.0,  # weight of forgetting; a list has one value for each step
    alpha=1.0)  # weight of the distance
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
