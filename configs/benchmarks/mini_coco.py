# All methods on the demo's detector, data and requests. Trials of a detector
# take the longest, so each method has three: as a rule its config, a higher
# learning rate, and more or less of what it is about. (Lower rates than those
# of the configs forget little in so few iterations.)
_base_ = '../mini/deformable-detr_mini-coco.py'  # for its optim_wrapper

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


def full(method, rates=(1e-3, ), **other):
    """A method that trains all weights."""
    return run(method, 'mini_full', rates, **other)


def lora(method, **other):
    """A method that trains a LoRA."""
    return run(method, 'mini_short', (3e-3, ), **other)


def demo(method, **other):
    """A config of the demo, in shorter steps."""
    return {
        **lora(method, **other), '_base_': [],
        'base':
        f'../mini/{method}_deformable-detr_mini-coco_3x2.py',
        'schedule.max_iters': 200,
        'schedule.param_scheduler.milestones': [133]
    }


def retrained(max_epochs, **settings):
    """Training anew, as the model was pre-trained."""
    return dict(
        _base_=['../_base_/methods/retrain.py'],
        task=all_queries,
        schedule=dict(
            max_epochs=max_epochs,
            batch_size=16,
            optim_wrapper={{_base_.optim_wrapper}},
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, end=100),
                dict(type='CosineAnnealingLR', eta_min=1e-5)
            ]),
        **settings)


# Of methods that do not push anything away from single queries.
all_queries = dict(forget_queries='all')
scrubbing = {'method.msteps': 2, 'task': all_queries}

suite = dict(
    title='Methods on mini_coco: a Deformable-DETR forgets six categories',
    base=[
        '../mini/deformable-detr_mini-coco.py',
        '../_base_/sequences/mini_coco_3x2.py',
        '../_base_/tasks/matched_queries.py'
    ],
    settings={
        # Images that nobody has looked at while configs were written.
        'val_dataloader.dataset.ann_file': 'annotations/instances_test.json',
        'val_dataloader.dataset.data_prefix.img': 'test/',
        'val_evaluator.ann_file':
        'data/mini_coco/annotations/instances_test.json'
    },
    trial_settings={
        # Images that are neither trained nor scored on; fewer iterations.
        'val_dataloader.dataset.ann_file': 'annotations/instances_tune.json',
        'val_dataloader.dataset.data_prefix.img': 'tune/',
        'val_evaluator.ann_file':
        'data/mini_coco/annotations/instances_tune.json',
        'schedule.max_iters': 110,
        'schedule.param_scheduler.milestones': [73]
    },
    trial_steps=1,
    not_applicable=dict(
        knowledge_swapping='learns new classes: another sequence'),
    runs=dict(
        # Nothing is chosen for retraining, which is no way of forgetting: on
        # all retained images, as long as the pre-training, and on the replay
        # images alone, which are fewer, so that each is seen more often.
        retrain=retrained(16, forgetting=dict(retain_share=1.0)),
        retrain_replay=retrained(80),
        # Levels of docs/en/guarantees.md, in which nothing is chosen here.
        masked_distillation=dict(_base_=['../_base_/levels/behaviour.py']),
        counterfactual=dict(_base_=['../_base_/levels/features.py']),
        noise_and_distil=dict(
            _base_=['../_base_/levels/weights.py'],
            forgetting=dict(retain_share=1.0, forget_share=1.0),
            schedule=dict(max_iters=3000, max_epochs=None)),
        fine_tune=full(
            'fine_tune', rates=(1e-3, 3e-3), settings=dict(task=all_queries)),
        # Without a bound, no rate does well.
        gradient_ascent=dict(
            full('gradient_ascent', settings={lr: 3e-5}),
            trials=[{'method.bound': 4.0}, {'method.bound': 4.0, lr: 1e-5}]),
        neg_grad_plus=full('neg_grad_plus', alpha=[0.85]),
        random_labels=full('random_labels', best=1e-3, beta=[3.0]),
        random_labels_lora=lora(
            'random_labels', best=3e-3, beta=[3.0], settings=with_lora),
        random_drop=full(
            'random_drop', max_share=[0.6], settings=dict(task=all_queries)),
        l2=full('l2', best=1e-3, weight=[0.01]),
        l2_lora=lora('l2', best=3e-3, weight=[0.01], settings=with_lora),
        ewc=full('ewc', best=1e-3, weight=[1000.0]),
        ewc_lora=lora('ewc', best=3e-3, weight=[1000.0], settings=with_lora),
        mas=full('mas', best=1e-3, weight=[0.5]),
        mas_lora=lora('mas', best=3e-3, weight=[0.5], settings=with_lora),
        lwf=full('lwf', best=1e-3, beta=[1.0]),
        der=full('der', best=1e-3, alpha=[1.5]),
        der_pp=full('der_pp', best=1e-3, alpha=[1.5]),
        fdr=full('fdr', alpha=[30.0], settings={'method.alpha': 10.0}),
        lirf=full('lirf', beta=[1.0]),
        scrub=full('scrub', alpha=[1.5], settings=scrubbing),
        scrub_s=full('scrub_s', alpha=[1.5], settings=scrubbing),
        delete=full(
            'delete', rates=(3e-4, ), best=3e-4, mask=['step'],
            settings={lr: 1e-4, 'task': None}),
        # The bound is GS-LoRA's, where beta is not 0.
        fg_oriu=lora(
            'fg_oriu', best=3e-3, beta=[0.2],
            settings={'method.bound': 4.0}),
        gs_lora=demo('gs-lora', best=3e-3, beta=[0.6]),
        gs_lora_pp=demo('gs-lora-pp', best=3e-3, w_r=[5.0])))
