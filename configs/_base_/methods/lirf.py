# LIRF (ECCV 2022): wrong labels for the forget half, its features pushed away
# from those of the model before the step, its scores of other classes kept.
# Settings and their defaults: gslora_mm/methods/lirf.py
method = dict(type='gslora_mm.LIRF')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
