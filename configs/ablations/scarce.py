# Few images, retained classes without any, one side without any: what each
# situation costs, by method. All are scored on the part `test` of their data,
# and train as long as the config that they begin with says.
faces = {
    'base': '../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    'val_dataloader.dataset.ann_file': 'test.txt',
    'val_dataloader.dataset.data_prefix': 'test',
    # Pairs of faces for verification are of the part val.
    'val_evaluator': [dict(type='Accuracy', topk=(1, 5))]
}
digits = {
    'base': '../mini/gs-lora_vit_mini-digits_3x2.py',
    'val_dataloader.dataset.ann_file': 'test.txt',
    'val_dataloader.dataset.data_prefix': 'test'
}
scored_coco = {
    'val_dataloader.dataset.ann_file': 'annotations/instances_test.json',
    'val_dataloader.dataset.data_prefix.img': 'test/',
    'val_evaluator.ann_file': 'data/mini_coco/annotations/instances_test.json'
}
coco = {
    'base': '../mini/gs-lora_deformable-detr_mini-coco_3x2.py',
    **scored_coco,
    # As in the benchmark of methods: 200 iterations a step, and the rate
    # that was chosen there for all that train a LoRA.
    'schedule.max_iters': 200,
    'schedule.optim_wrapper.optimizer.lr': 3e-3,
    'schedule.param_scheduler.milestones': [133]
}

# With few images settings find themselves, as those of a user do.
own_faces = {
    **faces, 'base': '../mini/gs-lora-auto_face-transformer_mini-faces_4x20.py'
}
own_digits = {**digits, 'base': '../mini/gs-lora-auto_vit_mini-digits_3x2.py'}
# Its test images are what it is scored on anyway.
own_fashion = {'base': '../mini/gs-lora-auto_vit_fashion-mnist_3x2.py'}
own_coco = {
    'base': '../mini/gs-lora-auto_deformable-detr_mini-coco_3x2.py',
    **scored_coco
}

# Methods, by what differs from GS-LoRA with the settings of its config.
gs_lora = {}
gs_lora_pp = {'method.type': 'gslora_mm.GSLoRAPP'}


def masked_distillation(**settings):
    """Masked distillation with its defaults, but for these."""
    return dict(
        method=dict(
            _delete_=True, type='gslora_mm.MaskedDistillation', **settings))


def shots(number):
    """So many images of each class."""
    return {
        'forgetting.retain_share': None,
        'forgetting.forget_share': None,
        'forgetting.shots': number
    }


five = {
    'forgetting.missing': ['id_007', 'id_009', 'id_010', 'id_017', 'id_022']
}
# All who stay to the end of the four steps, in the first of these alone.
twenty = {
    'forgetting.steps.num_steps': 1,
    'forgetting.missing': [
        'id_007', 'id_009', 'id_010', 'id_017', 'id_022', 'id_032', 'id_034',
        'id_037', 'id_052', 'id_055', 'id_056', 'id_061', 'id_063', 'id_066',
        'id_069', 'id_075', 'id_077', 'id_078', 'id_083', 'id_089'
    ]
}
two = {'forgetting.missing': ['eight', 'nine']}
no_forget = {'forgetting.forget_share': 0}
no_retain = {'forgetting.retain_share': 0}

only = dict(masked_distillation=masked_distillation())
both = dict(only, gs_lora=gs_lora)
all_three = dict(both, gs_lora_pp=gs_lora_pp)
# As in _base_/methods/masked_distillation_drawn.py.
drawn = dict(masked_distillation=masked_distillation(w_hold=1.0, margin=6.0))
# Of scenes, eight are drawn beside eight that are retained.
eight = dict(masked_distillation=masked_distillation(drawn_batch_size=8))
situations = dict(
    faces_missing_5=(faces, five, both),
    faces_missing_20=(faces, twenty, both),
    faces_4_shots=(own_faces, shots(4), all_three),
    faces_no_forget=(faces, no_forget, drawn),
    digits_4_shots=(own_digits, shots(4), all_three),
    digits_no_retain=(digits, no_retain, only),
    coco_missing_2=(coco, two, both),
    fashion_4_shots=(own_fashion, shots(4), all_three),
    coco_8_shots=(own_coco, shots(8), all_three),
    coco_no_retain=(coco, no_retain, only),
    coco_no_forget=(coco, {
        **no_forget, 'schedule.batch_size': 8
    }, eight))

suite = dict(
    title='Scarce data: situations and methods',
    runs={
        f'{situation}-{method}': {
            **data,
            **given,
            **settings
        }
        for situation, (data, given, methods) in situations.items()
        for method, settings in methods.items()
    })
