# All methods on the demo's detector, data and requests.
# Searched are the learning rate and the weight that a method is about: a
# third of what its config says, the same, and three times as much.
whole = {'schedule.optim_wrapper.optimizer.lr': [1e-4, 3e-4, 1e-3]}
lora = {'schedule.optim_wrapper.optimizer.lr': [3e-4, 1e-3, 3e-3]}

benchmark = dict(
    title='Methods on mini_coco: a Deformable-DETR forgets six categories',
    runs={
        name: f'../baselines/mini_coco/{name}.py'
        for name in (
            *('retrain', 'retrain_replay', 'fine_tune', 'gradient_ascent'),
            *('neg_grad_plus', 'random_labels', 'random_drop'),
            *('l2', 'l2_lora', 'ewc', 'ewc_lora', 'mas', 'mas_lora'),
            *('lwf', 'der', 'der_pp', 'fdr', 'lirf', 'scrub', 'scrub_s'),
            *('delete', 'fg_oriu', 'gs_lora', 'gs_lora_pp'),
        )
    },
    not_applicable=dict(
        knowledge_swapping='learns new classes: another sequence'
    ),
    tune=dict(
        budget=3,
        steps=1,
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
        # Nothing is chosen for retraining, which is not a way of forgetting.
        search=dict(
            fine_tune=whole,
            gradient_ascent={
                'method.bound': [None, 4.0],
                'schedule.optim_wrapper.optimizer.lr': [1e-5, 3e-5, 1e-4],
            },
            neg_grad_plus={'method.alpha': [0.85, 0.95, 0.98], **whole},
            random_labels={'method.beta': [0.3, 1.0, 3.0], **whole},
            random_drop={'method.max_share': [0.07, 0.2, 0.6], **whole},
            l2={'method.weight': [0.03, 0.1, 0.3], **whole},
            l2_lora={'method.weight': [0.03, 0.1, 0.3], **lora},
            ewc={'method.weight': [3.0, 10.0, 30.0], **whole},
            ewc_lora={'method.weight': [3.0, 10.0, 30.0], **lora},
            mas={'method.weight': [0.0015, 0.005, 0.015], **whole},
            mas_lora={'method.weight': [0.0015, 0.005, 0.015], **lora},
            lwf={'method.alpha': [0.3, 1.0, 3.0], **whole},
            der={'method.alpha': [0.15, 0.5, 1.5], **whole},
            der_pp={'method.alpha': [0.15, 0.5, 1.5], **whole},
            fdr={'method.alpha': [3.0, 10.0, 30.0], **whole},
            lirf={'method.w_at': [0.2, 0.6, 1.8], **whole},
            scrub={'method.alpha': [0.15, 0.5, 1.5], **whole},
            scrub_s={'method.smoothing': [0.03, 0.1, 0.3], **whole},
            delete={
                'method.mask': ['own', 'step'],
                'schedule.optim_wrapper.optimizer.lr': [3e-5, 1e-4, 3e-4],
            },
            fg_oriu={'method.w_f': [0.23, 0.7, 2.1], **lora},
            gs_lora={'method.beta': [0.07, 0.2, 0.6], **lora},
            gs_lora_pp={'method.beta': [0.07, 0.2, 0.6], **lora},
        ),
    ),
)
