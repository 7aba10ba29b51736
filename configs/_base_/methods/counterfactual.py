# Level "features": the model learns to see an image as it saw it without
# what is to be forgotten, in all its layers.
# Settings and their defaults: gslora_mm/methods/counterfactual_distillation.py
method = dict(type='gslora_mm.CounterfactualDistillation')
adapter = dict(
    rank=16, alpha=32.0, dropout=0.0, target='all', group_by='block'
)
