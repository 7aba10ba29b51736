# The Face Transformer of the papers (arXiv 2103.14803) is a ViT of mmpretrain:
# 6 blocks of width 512, 8 x 8 px patches of aligned faces of 112 x 112 px,
# 19,157,504 parameters with the class weights of 100 identities.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=512,
            num_layers=6,
            num_heads=8,
            feedforward_channels=2048),
        img_size=112,
        patch_size=8,
        drop_rate=0.1,
        qkv_bias=False,
        norm_cfg=dict(type='LN', eps=1e-5)),
    neck=None,
    head=dict(
        type='gslora_mm.CosFaceClsHead',
        num_classes=100,
        in_channels=512,
        scale=64.0,
        margins=0.35))
