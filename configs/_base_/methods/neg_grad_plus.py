# NegGrad+ (NeurIPS 2023): ascent on the one half, descent on the other.
method = dict(
    type='gslora_mm.NegGradPlus',
    alpha=0.95)  # weight of what is kept; the ascent has the rest
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
