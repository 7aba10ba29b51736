# Wrong labels for what is to be forgotten, replay, and an even pull to the
# weights that the step began with.
# Settings and their defaults: gslora_mm/methods/l2.py
method = dict(type='gslora_mm.L2')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
