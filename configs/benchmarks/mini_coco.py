# All methods on the demo's detector, data and requests.
_base_ = '../_base_/benchmarks/methods.py'
# Detectors take smaller steps than classifiers.
lora = {'schedule.optim_wrapper.optimizer.lr': [3e-4, 3e-3]}

benchmark = dict(
    title='Methods on mini_coco: a Deformable-DETR forgets six categories',
    runs={
        name: f'../baselines/mini_coco/{name}.py'
        for name in (
            *('retrain', 'retrain_replay', 'fine_tune', 'gradient_ascent'),
            *('neg_grad_plus', 'random_labels', 'random_labels_lora'),
            *('random_drop', 'l2', 'l2_lora', 'ewc', 'ewc_lora'),
            *('mas', 'mas_lora', 'lwf', 'der', 'der_pp', 'fdr', 'lirf'),
            *('scrub', 'scrub_s', 'delete', 'fg_oriu'),
            *('gs_lora', 'gs_lora_pp'),
        )
    },
    tune=dict(
        budget=3,
        settings={
            # Images that are neither trained nor scored on; fewer iterations.
            'val_dataloader.dataset.ann_file':
            'annotations/instances_tune.json',
            'val_dataloader.dataset.data_prefix.img': 'tune/',
            'val_evaluator.ann_file':
            'data/mini_coco/annotations/instances_tune.json',
            'schedule.max_iters': 150,
            'schedule.param_scheduler.milestones': [100],
        },
        search=dict(
            random_labels_lora=lora,
            l2_lora=lora,
            ewc_lora=lora,
            mas_lora=lora,
            fg_oriu=lora,
            gs_lora=lora,
            gs_lora_pp={**lora, 'method.w_r': [0.5, 5.0]},
        ),
    ),
)
