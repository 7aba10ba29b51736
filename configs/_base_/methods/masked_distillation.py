# The model as it was, with the classes to forget ruled out, learned from
# whatever images are at hand: few, of some retained classes none, or of one
# side alone. Settings and their defaults: gslora_mm/methods/masked_distillation.py
method = dict(type='gslora_mm.MaskedDistillation')
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
