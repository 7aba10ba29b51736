# What a group of the group lasso is: a Transformer block, a layer's LoRA, or
# each matrix of it. Only the proximal lasso makes whole groups zero; its
# settings are those of gs-lora-proximal_deformable-detr_mini-coco_3x2.py.
proximal = {
    'method.sparsity': 'proximal',
    'method.alpha_s': 2e-2,
    'method.beta': 0.3,
    'method.warmup_iters': 150,
    'schedule.max_iters': 400,
    'schedule.param_scheduler.milestones': [300]
}
suite = dict(
    title='Grouping of the adapter',
    base='../mini/gs-lora_deformable-detr_mini-coco_3x2.py',
    runs={
        'block': {'adapter.group_by': 'block'},
        'lora': {'adapter.group_by': 'lora'},
        'matrix': {'adapter.group_by': 'matrix'},
        'block_proximal': {'adapter.group_by': 'block', **proximal},
        'lora_proximal': {'adapter.group_by': 'lora', **proximal},
        'matrix_proximal': {'adapter.group_by': 'matrix', **proximal},
    })
