# Pre-training on the 20 people who are never forgotten: what a linear probe
# of a forgotten model is compared with. The labels stay as they are.
_base_ = './face-transformer_mini-faces.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='gslora_mm.ClassSubset',
        classes=[
            'id_007', 'id_009', 'id_010', 'id_017', 'id_022', 'id_032',
            'id_034', 'id_037', 'id_052', 'id_055', 'id_056', 'id_061',
            'id_063', 'id_066', 'id_069', 'id_075', 'id_077', 'id_078',
            'id_083', 'id_089'
        ],
        dataset={{_base_.train_dataloader.dataset}}))
custom_hooks = [
    dict(type='gslora_mm.StockCheckpointHook', filename='retrained.pth')
]
