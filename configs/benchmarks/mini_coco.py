# All methods on the demo's detector, data and requests.
_base_ = '../_base_/benchmarks/methods.py'
# Trials of a detector take the longest, so each method has three: as a rule
# its config, a higher learning rate, and more or less of what it is about.
# (Lower rates than those of the configs forget little in so few iterations.)
whole = {'schedule.optim_wrapper.optimizer.lr': [1e-3]}
lora = {'schedule.optim_wrapper.optimizer.lr': [3e-3]}

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
    settings={
        # Images that nobody has looked at while configs were written.
        'val_dataloader.dataset.ann_file': 'annotations/instances_test.json',
        'val_dataloader.dataset.data_prefix.img': 'test/',
        'val_evaluator.ann_file':
        'data/mini_coco/annotations/instances_test.json',
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
            'schedule.max_iters': 110,
            'schedule.param_scheduler.milestones': [73],
        },
        search=dict(
            _delete_=True,
            fine_tune={'schedule.optim_wrapper.optimizer.lr': [1e-3, 3e-3]},
            # Without a bound, no rate does well.
            gradient_ascent={
                'method.bound': [4.0],
                'schedule.optim_wrapper.optimizer.lr': [1e-5],
            },
            neg_grad_plus={**whole, 'method.alpha': [0.85]},
            random_labels={**whole, 'method.beta': [3.0]},
            random_labels_lora={**lora, 'method.beta': [3.0]},
            random_drop={**whole, 'method.max_share': [0.6]},
            l2={**whole, 'method.weight': [0.01]},
            l2_lora={**lora, 'method.weight': [0.01]},
            ewc={**whole, 'method.weight': [1000.0]},
            ewc_lora={**lora, 'method.weight': [1000.0]},
            mas={**whole, 'method.weight': [0.5]},
            mas_lora={**lora, 'method.weight': [0.5]},
            lwf={**whole, 'method.beta': [1.0]},
            der={**whole, 'method.alpha': [1.5]},
            der_pp={**whole, 'method.alpha': [1.5]},
            fdr={**whole, 'method.alpha': [30.0]},
            lirf={**whole, 'method.beta': [1.0]},
            scrub={**whole, 'method.alpha': [1.5]},
            scrub_s={**whole, 'method.alpha': [1.5]},
            delete={
                'schedule.optim_wrapper.optimizer.lr': [3e-4],
                'method.mask': ['step'],
            },
            fg_oriu={**lora, 'method.beta': [0.2]},
            gs_lora={**lora, 'method.beta': [0.6]},
            gs_lora_pp={**lora, 'method.w_r': [5.0]},
        ),
    ),
)
