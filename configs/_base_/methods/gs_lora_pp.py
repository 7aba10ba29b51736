# GS-LoRA++ (T-PAMI): GS-LoRA, and features pushed away from or pulled to the
# prototype of their class in the model as it was before any forgetting.
# Settings and their defaults: gslora_mm/methods/gs_lora_pp.py
method = dict(type='gslora_mm.GSLoRAPP')
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
