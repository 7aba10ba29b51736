# Knowledge Swapping (ICML 2025): GS-LoRA that first learns and then forgets.
# What is learned stands in forgetting.learn.
method = dict(
    type='gslora_mm.KnowledgeSwapping',
    beta=0.2,  # weight of forgetting; a list has one value for each step
    bound=15.0,  # BND: the classification loss that counts as forgotten
    alpha_s=5e-3,  # weight of the group lasso
    learn_share=0.5)  # of the iterations; a list has one value for each step
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
