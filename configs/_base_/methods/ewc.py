# EWC (PNAS 2017): wrong labels for what is to be forgotten, replay, and a pull
# to the weights that the step began with, by their Fisher information.
# Settings and their defaults: gslora_mm/methods/ewc.py
method = dict(type='gslora_mm.EWC')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
