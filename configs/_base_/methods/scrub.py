# SCRUB (NeurIPS 2023): passes over the forget images, away from the model
# before the step, in turn with passes over the retain images, to it. A step
# has to be longer than the epochs of msteps.
# Settings and their defaults: gslora_mm/methods/scrub.py
method = dict(type='gslora_mm.SCRUB')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
