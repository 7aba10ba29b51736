# Retraining on all retained images, as long as the pre-training: what others
# are measured against.
_base_ = [
    '../../mini/deformable-detr_mini-coco.py',
    '../../_base_/sequences/mini_coco_3x2.py',
    '../../_base_/methods/retrain.py',
]
forgetting = dict(retain_share=1.0)
schedule = dict(
    max_epochs=16,
    batch_size=16,
    optim_wrapper={{_base_.optim_wrapper}},
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, end=100),
        dict(type='CosineAnnealingLR', eta_min=1e-5),
    ],
)
task = dict(type='gslora_mm.DetectionTask', aux_loss=dict(retain=True))
