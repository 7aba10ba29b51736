# What every benchmark runs, and the values that are searched: the learning rate
# and the weight that a method is about, a third of what the configs say, the
# same, and three times as much. A benchmark adds its title, its configs and
# the images of its trials.
whole = {'schedule.optim_wrapper.optimizer.lr': [1e-4, 3e-4, 1e-3]}
lora = {'schedule.optim_wrapper.optimizer.lr': [3e-3, 1e-2, 3e-2]}

benchmark = dict(
    not_applicable=dict(
        knowledge_swapping='learns new classes: another sequence'
    ),
    tune=dict(
        budget=5,
        steps=1,
        # Nothing is chosen for retraining, which is not a way of forgetting.
        search=dict(
            fine_tune=whole,
            gradient_ascent={
                'method.bound': [None, 25.0],
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
            fg_oriu={
                'method.beta': [0.0, 0.2],
                'method.w_f': [0.23, 0.7, 2.1],
                **lora,
            },
            gs_lora={'method.beta': [0.07, 0.2, 0.6], **lora},
            gs_lora_pp={
                'method.beta': [0.07, 0.2, 0.6],
                'method.w_r': [1.7, 5.0, 15.0],
                **lora,
            },
        ),
    ),
)
