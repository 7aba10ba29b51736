# All methods on the small ViT that forgets six of ten digits.
_base_ = '../_base_/benchmarks/methods.py'

benchmark = dict(
    title='Methods on mini_digits: a ViT forgets six of ten digits',
    runs={
        name: f'../baselines/mini_digits/{name}.py'
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
        # Images that nothing was chosen on.
        'val_dataloader.dataset.ann_file': 'test.txt',
        'val_dataloader.dataset.data_prefix': 'test',
    },
    tune=dict(
        settings={
            # Images that are neither trained nor scored on.
            'val_dataloader.dataset.ann_file': 'tune.txt',
            'val_dataloader.dataset.data_prefix': 'tune',
        },
        search=dict(
            # Half and twice what the configs say.
            gs_lora={'method.bound': [5.0, 20.0]},
            gs_lora_pp={'method.bound': [5.0, 20.0]},
        ),
    ),
)
