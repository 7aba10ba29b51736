# Pre-training without the categories that the demo forgets: what a linear
# probe of a forgotten model is compared with. The labels stay as they are.
_base_ = './deformable-detr_mini-coco.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='gslora_mm.ClassSubset',
        classes=['six', 'seven', 'eight', 'nine'],
        dataset={{_base_.train_dataloader.dataset}}))
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='retrained.pth')
]
