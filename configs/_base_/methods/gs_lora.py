# GS-LoRA (CVPR 2024): LoRA on every FFN of the Transformer, one group a block.
method = dict(
    type='gslora_mm.GSLoRA',
    beta=0.15,  # weight of forgetting; a list has one value for each step
    bound=15.0,  # BND: the classification loss that counts as forgotten
    alpha_s=3e-4,  # weight of the group lasso
    warmup_iters=0,  # iterations before alpha_s switches on
    sparsity='subgradient')  # or 'proximal': unused groups exactly zero
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
