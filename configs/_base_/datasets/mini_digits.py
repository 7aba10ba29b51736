# Real handwritten digits in class folders, made in seconds by
# `python tools/dataset_tools/make_mini_digits.py --root data/mini_digits`.
data_root = 'data/mini_digits/'
metainfo = dict(
    classes=('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
             'eight', 'nine'))
data_preprocessor = dict(
    num_classes=10,
    mean=[110.0, 110.0, 110.0],
    std=[60.0, 60.0, 60.0],
    to_rgb=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # No flips: a mirrored digit is another sign, or none.
    dict(type='RandomCrop', crop_size=32, padding=2, padding_mode='edge'),
    dict(type='PackInputs')
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

# The lists give each file its label, whatever the order of the folders.
train_dataloader = dict(
    batch_size=96,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='train.txt',
        data_prefix='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=200,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='val.txt',
        data_prefix='val',
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
