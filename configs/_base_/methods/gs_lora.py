# GS-LoRA (CVPR 2024): LoRA on every FFN of the Transformer, one group a block.
# Settings and their defaults: gslora_mm/methods/gs_lora.py
method = dict(type='gslora_mm.GSLoRA')
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
