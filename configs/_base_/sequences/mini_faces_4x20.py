# Four erasure requests of twenty people each, in the papers' order for 100
# identities.
forgetting = dict(
    pretrained='work_dirs/mini_faces/pretrain/pretrained.pth',
    steps=dict(
        type='gslora_mm.ClassOrder',
        scheme='python',
        seed=1337,
        num_steps=4,
        classes_per_step=20),
    retain_share=0.25,
    forget_share=0.25)
