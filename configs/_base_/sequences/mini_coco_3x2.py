# Three erasure requests of two categories each, from 10 % of the images.
forgetting = dict(
    pretrained='work_dirs/demo/pretrain/pretrained.pth',
    steps=[['one', 'seven'], ['three', 'eight'], ['two', 'five']],
    retain_share=0.1,
    forget_share=0.25)
