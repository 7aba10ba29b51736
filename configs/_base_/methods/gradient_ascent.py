# Gradient ascent on what is to be forgotten (NegGrad); needs no other images.
method = dict(
    type='gslora_mm.GradientAscent',
    bound=None)  # or the classification loss at which the ascent ends
adapter = None  # the whole model is trained; for a LoRA see docs/en/methods.md
