# Random labels for what is to be forgotten, and replay ("Amnesiac Machine
# Learning", AAAI 2021); of a detector, the objects become background.
# Settings and their defaults: gslora_mm/methods/random_labels.py
method = dict(type='gslora_mm.RandomLabels')
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
