# FG-OrIU (ICCV 2025): features leave the subspace of what is to be forgotten,
# and no update acts in those of what stays and of what went before.
method = dict(
    type='gslora_mm.FGOrIU',
    beta=0.0,  # weight of pushing up the loss; a list has one value a step
    bound=15.0,  # BND, where beta is not 0
    w_f=0.7,  # weight of the forget features (faces; ImageNet-100: 3.5)
    w_r=0.07,  # weight of the retain features (faces; ImageNet-100: 7)
    energy=0.99)  # of the singular values' fourth powers, for every subspace
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
