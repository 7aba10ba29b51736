# Pre-training of the Face Transformer on CASIA-100, as in the papers' code:
# 1,200 epochs of 480 images, here as 60 on each of 8 GPUs.
_base_ = [
    '../_base_/models/face_transformer.py',
    '../_base_/datasets/casia_100.py',
    'mmpretrain::_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=60)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05))

max_epochs = 1200
warmup_epochs = 10
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=100)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 3e-4,
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True)
]

# Two, because mmengine deletes an old checkpoint before it saves a new one.
default_hooks = dict(checkpoint=dict(interval=20, max_keep_ckpts=2))
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='pretrained.pth')
]
randomness = dict(seed=1337)
