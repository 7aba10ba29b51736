# Plain LoRA fine-tuning of the mini Deformable-DETR: no forgetting. mmdet's
# own tools/train.py runs it as well.
_base_ = '../mini/deformable-detr_mini-coco.py'
load_from = 'work_dirs/demo/pretrain/pretrained.pth'
model = dict(
    _delete_=True,
    type='gslora_mm.AdaptedModel',
    model={{_base_.model}},
    adapter=dict(rank=8, alpha=16.0, exclude=['backbone', 'neck']),
    loss_structure=dict(
        type='gslora_mm.GroupSparsityLoss', loss_weight=3e-4))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    eta_min=1e-5,
    T_max=max_epochs,
    convert_to_iter_based=True)
custom_hooks = [
    dict(type='gslora_mm.GroupNormHook', interval=50),
    dict(type='gslora_mm.StockCheckpointHook', filename='merged.pth')
]
