# Plain LoRA fine-tuning: a ViT that knows eight of the ten digits learns the
# other two. Its class layer is trained along.
_base_ = '../mini/vit_mini-digits.py'
load_from = 'work_dirs/mini_digits_8/pretrain/pretrained.pth'
model = dict(
    _delete_=True,
    type='gslora_mm.AdaptedModel',
    model={{_base_.model}},
    adapter=dict(rank=8, alpha=16.0, target='all'),
    also_train=['head'])
max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True)
]
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='merged.pth')
]
