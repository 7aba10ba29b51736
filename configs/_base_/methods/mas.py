# MAS (ECCV 2018): wrong labels for what is to be forgotten, replay, and a pull
# to the weights that the step began with, by what the outputs owe them.
# Settings and their defaults: gslora_mm/methods/mas.py
method = dict(type='gslora_mm.MAS')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
