# DER (NeurIPS 2020): wrong labels for the forget half; the logits of the
# retain half, in place of its labels, are those of the model before the step.
# Settings and their defaults: gslora_mm/methods/der.py
method = dict(type='gslora_mm.DER')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
