# Gradient ascent on what is to be forgotten (NegGrad); needs no other images.
# Settings and their defaults: gslora_mm/methods/gradient_ascent.py
method = dict(type='gslora_mm.GradientAscent')
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
