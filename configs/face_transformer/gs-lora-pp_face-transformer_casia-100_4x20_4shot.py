# CASIA-100 in four steps, four images of each person (GS-LoRA++).
_base_ = './gs-lora-pp_face-transformer_casia-100_4x20.py'
forgetting = dict(retain_share=None, forget_share=None, shots=4)
# Prototypes of four images are made of twenty augmentations of each, with
# RandAugment of two operations at level 5 of 31; training sees them, too.
method = dict(
    beta=[0.3, 0.4, 0.28, 0.2],
    w_f=[0.015, 0.06, 0.025, 0.012],
    bound_pro=50.0,
    prototype_passes=20)
schedule = dict(batch_size=8)  # 4 forget and 4 retain images
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(112, 112)),
            dict(
                type='RandAugment',
                policies='timm_increasing',
                num_policies=2,
                magnitude_level=5,
                total_level=31),
            dict(type='PackInputs')
        ]))
