# Pre-training on real photographs: a ViT of 0.5 M parameters learns the ten
# kinds of clothing of Fashion-MNIST, in minutes on a CPU core.
_base_ = [
    '../_base_/datasets/fashion_mnist.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=96,
            num_layers=4,
            num_heads=4,
            feedforward_channels=384),
        img_size=28,
        in_channels=1,
        # Patches that overlap: 5 x 5 of them, 5 px apart.
        patch_size=8,
        patch_cfg=dict(stride=5),
        out_type='cls_token'),
    head=dict(
        type='VisionTransformerClsHead', num_classes=10, in_channels=96))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))

max_epochs = 3
train_cfg = dict(
    type='EpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True)
]

# Two, because mmengine deletes an old checkpoint before it saves a new one.
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='pretrained.pth')
]
randomness = dict(seed=0)
