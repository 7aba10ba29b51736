# Fine-tuning on what is kept; the rest is forgotten by neglect.
method = dict(type='gslora_mm.FineTune')
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
