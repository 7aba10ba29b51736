# Pre-training without the digits that are forgotten: what a linear probe of a
# forgotten model is compared with. The labels stay as they are.
_base_ = './vit_mini-digits.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='gslora_mm.ClassSubset',
        classes=['six', 'seven', 'eight', 'nine'],
        dataset={{_base_.train_dataloader.dataset}}))
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='retrained.pth')
]
