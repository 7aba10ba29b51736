# SCRUB-S: SCRUB (NeurIPS 2023) with smoothing, that is, held to a slow average
# of its own weights. A step has to be longer than the epochs of msteps.
# Settings and their defaults: gslora_mm/methods/scrub_s.py
method = dict(type='gslora_mm.SCRUBS')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
