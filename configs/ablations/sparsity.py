# The group lasso: none, the papers' subgradient, or a proximal step, each
# from the start or after a warm-up of half the iterations.
suite = dict(
    title='Weight, warm-up and kind of the group lasso',
    base='../mini/gs-lora_deformable-detr_mini-coco_3x2.py',
    runs={
        'none': {'method.alpha_s': 0.0},
        'subgradient': {'method.alpha_s': 3e-4},
        'subgradient_warmup': {
            'method.alpha_s': 3e-4,
            'method.warmup_iters': 150
        },
        'proximal': {'method.alpha_s': 2e-2, 'method.sparsity': 'proximal'},
        'proximal_warmup': {
            'method.alpha_s': 2e-2,
            'method.sparsity': 'proximal',
            'method.warmup_iters': 150
        },
    })
