# ImageNet-100 out of a model of all 1,000 classes: training images of the 100
# classes (gslora_mm.datasets.imagenet_100), validation images of all 1,000.
# The folders are those of ILSVRC 2012: data/imagenet/train/n01440764/*.JPEG;
# those of the validation images have to be sorted into class folders as well.
# Of data/imagenet/train only the folders of the 100 classes are needed.
data_root = 'data/imagenet/'
data_preprocessor = dict(
    num_classes=1000,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)

# Like the published forgetting runs, without augmentation.
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='ResizeEdge',
        scale=256,
        edge='short',
        backend='pillow',
        interpolation='bilinear'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs')
]

train_dataloader = dict(
    batch_size=48,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='gslora_mm.ImageNet100',
        data_root=data_root,
        data_prefix='train',
        pipeline=pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='gslora_mm.ImageNet100',
        data_root=data_root,
        data_prefix='val',
        others=True,
        test_mode=True,
        pipeline=pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
