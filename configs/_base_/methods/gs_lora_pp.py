# GS-LoRA++ (T-PAMI): GS-LoRA, and features pushed away from or pulled to the
# prototype of their class in the model as it was before any forgetting.
method = dict(
    type='gslora_mm.GSLoRAPP',
    beta=0.15,  # weight of forgetting; a list has one value for each step
    bound=15.0,  # BND: the classification loss that counts as forgotten
    alpha_s=3e-4,  # weight of the group lasso
    warmup_iters=0,  # iterations before alpha_s switches on
    sparsity='subgradient',  # or 'proximal': unused groups exactly zero
    w_f=0.005,  # weight of the push; a list has one value for each step
    w_r=0.005,  # weight of the pull; 0 in the published scripts
    bound_pro=18.0,  # BND_pro: the divergence that counts as pushed away
    prototype_passes=1)  # over the replay images, augmented as in training
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
