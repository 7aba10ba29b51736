# FG-OrIU (ICCV 2025): features leave the subspace of what is to be forgotten,
# and no update acts in those of what stays and of what went before.
# Settings and their defaults: gslora_mm/methods/fg_oriu.py
method = dict(type='gslora_mm.FGOrIU')
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
