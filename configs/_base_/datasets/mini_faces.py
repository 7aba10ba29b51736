# Drawn faces of 100 people who do not exist, made in seconds by
# `python tools/dataset_tools/make_mini_faces.py --root data/mini_faces`.
data_root = 'data/mini_faces/'
metainfo = dict(
    classes=[f'id_{label:03d}' for label in range(100)])
data_preprocessor = dict(
    num_classes=100,
    mean=[110.0, 110.0, 110.0],
    std=[60.0, 60.0, 60.0],
    to_rgb=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
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

val_evaluator = [
    dict(type='Accuracy', topk=(1, 5)),
    dict(type='gslora_mm.FaceVerification', pairs=data_root + 'pairs.txt')
]
test_evaluator = val_evaluator
