# Fine-tuning on what is kept; the rest is forgotten by neglect.
# Settings and their defaults: gslora_mm/methods/fine_tune.py
method = dict(type='gslora_mm.FineTune')
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
