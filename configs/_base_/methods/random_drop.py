# Random weights are set to zero, then what is kept is fine-tuned: a control.
# Settings and their defaults: gslora_mm/methods/random_drop.py
method = dict(
    type='gslora_mm.RandomDrop',
    seed=0)  # of the draw; suites put the seed of their run here
adapter = None  # the whole model is trained
