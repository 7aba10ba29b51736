# LwF (ECCV 2016): wrong labels for the forget half; the retain half is
# replayed, and its outputs held to those of the model before the step.
# Settings and their defaults: gslora_mm/methods/lwf.py
method = dict(type='gslora_mm.LwF')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
