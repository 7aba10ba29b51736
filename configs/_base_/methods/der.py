# DER (NeurIPS 2020): wrong labels for the forget half; the logits of the
# retain half, in place of its labels, are those of the model before the step.
method = dict(
    type='gslora_mm.DER',
    beta=1.0,  # weight of forgetting; a list has one value for each step
    alpha=0.5)  # weight of the replayed logits
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
