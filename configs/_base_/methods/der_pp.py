# DER++ (NeurIPS 2020): DER, and the labels of the retain half.
method = dict(
    type='gslora_mm.DERPP',
    beta=1.0,  # weight of forgetting; a list has one value for each step
    alpha=0.5,  # weight of the replayed logits
    gamma=0.5)  # weight of the replayed labels
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
