# NegGrad+ (NeurIPS 2023): ascent on the one half, descent on the other.
# Settings and their defaults: gslora_mm/methods/neg_grad_plus.py
method = dict(type='gslora_mm.NegGradPlus')
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
