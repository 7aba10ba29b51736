# Pre-training of the mini classifier: a ViT of 0.8 M parameters on real
# handwritten digits, in minutes on a CPU core.
_base_ = [
    '../_base_/datasets/mini_digits.py',
    'mmpretrain::_base_/default_runtime.py'
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=128,
            num_layers=4,
            num_heads=4,
            feedforward_channels=512),
        img_size=32,
        # Patches that overlap: 5 x 5 of them, 6 px apart.
        patch_size=8,
        patch_cfg=dict(stride=6),
        out_type='cls_token'),
    head=dict(
        type='VisionTransformerClsHead', num_classes=10, in_channels=128))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))

max_epochs = 22
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
default_hooks = dict(checkpoint=dict(interval=5, max_keep_ckpts=2))
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='pretrained.pth')
]
randomness = dict(seed=0)
