# What every benchmark runs, and the values that are searched beside those of
# the configs: first the learning rate, then what a method is about. A
# benchmark adds its title, its configs and the images of its trials.
whole = {'schedule.optim_wrapper.optimizer.lr': [1e-4, 1e-3]}
lora = {'schedule.optim_wrapper.optimizer.lr': [3e-3, 3e-2]}

benchmark = dict(
    not_applicable=dict(
        knowledge_swapping='learns new classes: another sequence'
    ),
    tune=dict(
        budget=5,
        steps=1,
        # Nothing is chosen for retraining, which is not a way of forgetting.
        search=dict(
            fine_tune={
                'schedule.optim_wrapper.optimizer.lr': [1e-4, 1e-3, 3e-3]
            },
            gradient_ascent={
                'schedule.optim_wrapper.optimizer.lr': [1e-6, 1e-5],
                'method.bound': [3.0, 6.0],
            },
            neg_grad_plus={**whole, 'method.alpha': [0.85, 0.98]},
            random_labels={**whole, 'method.beta': [0.3, 3.0]},
            random_labels_lora={**lora, 'method.beta': [0.3, 3.0]},
            random_drop={**whole, 'method.max_share': [0.07, 0.6]},
            l2={**whole, 'method.weight': [0.01, 1.0]},
            l2_lora={**lora, 'method.weight': [0.001, 0.01]},
            # So far apart because a penalty must be of the losses' size to
            # make a difference, and nothing else says which weight that is.
            ewc={**whole, 'method.weight': [10.0, 1000.0]},
            ewc_lora={**lora, 'method.weight': [10.0, 1000.0]},
            mas={**whole, 'method.weight': [0.005, 0.5]},
            mas_lora={**lora, 'method.weight': [0.005, 0.5]},
            lwf={**whole, 'method.beta': [0.3, 1.0]},
            der={**whole, 'method.alpha': [0.15, 1.5]},
            der_pp={**whole, 'method.alpha': [0.15, 1.5]},
            fdr={**whole, 'method.alpha': [3.0, 30.0]},
            lirf={**whole, 'method.w_at': [0.2, 1.8]},
            scrub={**whole, 'method.alpha': [0.15, 1.5]},
            scrub_s={**whole, 'method.alpha': [0.15, 1.5]},
            delete={
                'schedule.optim_wrapper.optimizer.lr': [3e-5, 3e-4, 1e-3],
                'method.mask': ['own', 'step'],
            },
            fg_oriu={**lora, 'method.beta': [0.2], 'method.w_f': [2.1]},
            # Which bounds make sense depends on the loss of the model.
            gs_lora=lora,
            gs_lora_pp=lora,
        ),
    ),
)
