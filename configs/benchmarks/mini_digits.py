# All methods on the small ViT that forgets six of ten digits.
_base_ = '../mini/vit_mini-digits.py'  # for its optim_wrapper

lr = 'schedule.optim_wrapper.optimizer.lr'
with_lora = dict(
    adapter=dict(
        _delete_=True,
        rank=8,
        alpha=1.0,
        dropout=0.0,
        target='ffn',
        group_by='block'))


def run(method, schedule, rates, best=None, settings=None, **tried):
    """A run, and its trials: rates alone, then settings at the best one."""
    at_best = {} if best is None else {lr: best}
    return dict(
        settings or {},
        _base_=[
            f'../_base_/methods/{method}.py',
            f'../_base_/schedules/{schedule}.py'
        ],
        trials=[{lr: rate} for rate in rates] + [
            {**at_best, f'method.{name}': value}
            for name, values in tried.items() for value in values
        ])


def full(method, rates=(1e-4, 1e-3), **other):
    """A method that trains all weights."""
    return run(method, 'mini_classifier_full', rates, **other)


def lora(method, **other):
    """A method that trains a LoRA."""
    return run(method, 'mini_classifier', (3e-3, 3e-2), **other)


def retrained(max_epochs, **settings):
    """Training anew, as the model was pre-trained."""
    return dict(
        _base_=['../_base_/methods/retrain.py'],
        schedule=dict(
            max_epochs=max_epochs,
            batch_size=96,
            optim_wrapper={{_base_.optim_wrapper}},
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, end=100),
                dict(type='CosineAnnealingLR', eta_min=1e-6)
            ]),
        **settings)


# Cosine annealing to 0: the usual 1e-5 is not below what is tried here.
ascent = {lr: 3e-5, 'schedule.param_scheduler.eta_min': 0}

suite = dict(
    title='Methods on mini_digits: a ViT forgets six of ten digits',
    base=[
        '../mini/vit_mini-digits.py',
        '../_base_/sequences/mini_digits_3x2.py'
    ],
    settings={
        # Images that nothing was chosen on.
        'val_dataloader.dataset.ann_file': 'test.txt',
        'val_dataloader.dataset.data_prefix': 'test'
    },
    trial_settings={
        # Images that are neither trained nor scored on.
        'val_dataloader.dataset.ann_file': 'tune.txt',
        'val_dataloader.dataset.data_prefix': 'tune'
    },
    trial_steps=1,
    not_applicable=dict(
        knowledge_swapping='learns new classes: another sequence'),
    # Trials: rates of a third and three times of what is configured, then
    # what a method is about, at the rate that was the best one.
    runs=dict(
        # Nothing is chosen for retraining, which is no way of forgetting: on
        # all retained images, as long as the pre-training, and on the replay
        # images alone, which are fewer, so that each is seen more often.
        retrain=retrained(22, forgetting=dict(retain_share=1.0)),
        retrain_replay=retrained(88),
        # Levels of docs/en/guarantees.md, in which nothing is chosen here.
        masked_distillation=dict(_base_=['../_base_/levels/behaviour.py']),
        counterfactual=dict(_base_=['../_base_/levels/features.py']),
        noise_and_distil=dict(
            _base_=[],
            base='../mini/weights_vit_mini-digits_3x2.py'),
        fine_tune=full('fine_tune', rates=(1e-4, 1e-3, 3e-3)),
        gradient_ascent=full(
            'gradient_ascent', rates=(1e-6, 1e-5), best=1e-5,
            bound=[3.0, 6.0], settings=ascent),
        neg_grad_plus=full('neg_grad_plus', alpha=[0.85, 0.98]),
        random_labels=full('random_labels', best=1e-3, beta=[0.3, 3.0]),
        random_labels_lora=lora(
            'random_labels', best=3e-2, beta=[0.3, 3.0], settings=with_lora),
        random_drop=full('random_drop', best=1e-3, max_share=[0.07, 0.6]),
        l2=full('l2', best=1e-3, weight=[0.01, 1.0]),
        l2_lora=lora(
            'l2', best=3e-2, weight=[0.001, 0.01], settings=with_lora),
        # So far apart because a penalty must be of the losses' size to make
        # a difference, and nothing else says which weight that is.
        ewc=full('ewc', best=1e-3, weight=[10.0, 1000.0]),
        ewc_lora=lora(
            'ewc', best=3e-2, weight=[10.0, 1000.0], settings=with_lora),
        mas=full('mas', best=1e-3, weight=[0.005, 0.5]),
        mas_lora=lora('mas', weight=[0.005, 0.5], settings=with_lora),
        lwf=full('lwf', best=1e-3, beta=[0.3, 1.0]),
        der=full('der', best=1e-3, alpha=[0.15, 1.5]),
        der_pp=full('der_pp', best=1e-3, alpha=[0.15, 1.5]),
        fdr=full('fdr', alpha=[3.0, 30.0], settings={'method.alpha': 10.0}),
        lirf=full('lirf', w_at=[0.2, 1.8]),
        scrub=full('scrub', best=1e-4, alpha=[0.15, 1.5]),
        scrub_s=full('scrub_s', best=1e-4, alpha=[0.15, 1.5]),
        delete=full(
            'delete', rates=(3e-5, 3e-4, 1e-3), best=3e-5, mask=['step'],
            settings={lr: 1e-4}),
        # The bound is GS-LoRA's, where beta is not 0.
        fg_oriu=lora(
            'fg_oriu', beta=[0.2], w_f=[2.1],
            settings={'method.bound': 10.0}),
        # Half and twice the bound that is configured.
        gs_lora=lora(
            'gs_lora', best=3e-2, bound=[5.0, 20.0],
            settings=dict(method=dict(bound=10.0, beta=0.2))),
        gs_lora_pp=lora(
            'gs_lora_pp', best=3e-2, bound=[5.0, 20.0],
            settings=dict(
                method=dict(
                    form='published',
                    bound=10.0,
                    beta=0.2,
                    w_f=0.01,
                    w_r=5.0)))))
