# All methods on the small Face Transformer that forgets 80 of 100 people.
_base_ = '../_base_/benchmarks/methods.py'

benchmark = dict(
    title='Methods on mini_faces: a Face Transformer forgets 80 of 100 people',
    runs={
        name: f'../baselines/mini_faces/{name}.py'
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
        # Pairs of faces for verification are of the part val.
        'val_evaluator': [dict(type='Accuracy', topk=(1, 5))],
    },
    tune=dict(
        settings={
            # Images that are neither trained nor scored on.
            'val_dataloader.dataset.ann_file': 'tune.txt',
            'val_dataloader.dataset.data_prefix': 'tune',
        },
        search=dict(
            # Below the 25 of the configs, see configs/ablations/bound.py.
            gs_lora={'method.bound': [10.0, 15.0]},
            gs_lora_pp={'method.bound': [10.0, 15.0]},
        ),
    ),
)
