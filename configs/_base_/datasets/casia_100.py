# CASIA-100, as published with GS-LoRA: the 100 people of CASIA-WebFace with
# the most pictures, aligned faces of 112 x 112 px, in folders named by
# identity. Unpack the archive so that there is
#   data/casia_100/train/1005/*.jpg ... and data/casia_100/test/1005/*.jpg
data_root = 'data/casia_100/'
# Labels follow the order of the names as text, as in the published models.
metainfo = dict(
    classes=('1005 1014 1022 1039 1147 1154 1226 1236 1245 1248 1299 1317 '
             '1321 138 14 1466 1542 1595 1649 1657 176 1764 18 1822 194 199 '
             '1994 2013 2027 2059 21 2188 2189 23 2390 2439 2526 256 2639 '
             '2644 2725 2738 2749 2834 291 2986 3 3024 308 3274 3384 3410 '
             '343 3687 37 3989 406 41 4111 4238 4290 4312 4362 4401 4478 '
             '4670 47 476 4968 5065 513 5287 5444 5447 5547 578 5830 5889 '
             '6023 6049 6090 6224 626 6332 6374 6558 658 6723 6811 69 693 '
             '7601 7766 8071 819 8313 8401 872 944 956').split())
# The Face Transformer's code gives the network RGB in 0..1.
data_preprocessor = dict(
    num_classes=100,
    mean=[0.0, 0.0, 0.0],
    std=[255.0, 255.0, 255.0],
    to_rgb=True)

# Like the published forgetting runs, without augmentation.
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(112, 112)),
    dict(type='PackInputs')
]

train_dataloader = dict(
    batch_size=48,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        metainfo=metainfo,
        data_prefix='train',
        pipeline=pipeline))
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        metainfo=metainfo,
        data_prefix='test',
        test_mode=True,
        pipeline=pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
