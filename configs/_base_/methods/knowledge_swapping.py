# Knowledge Swapping (ICML 2025): GS-LoRA that first learns and then forgets.
# What is learned stands in forgetting.learn.
# Settings and their defaults: gslora_mm/methods/knowledge_swapping.py
method = dict(type='gslora_mm.KnowledgeSwapping')
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
