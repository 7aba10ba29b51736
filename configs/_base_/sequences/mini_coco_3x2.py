# Three erasure requests of two categories each.
forgetting = dict(
    pretrained='work_dirs/demo/pretrain/pretrained.pth',
    steps=[['zero', 'one'], ['two', 'three'], ['four', 'five']],
    retain_share=0.2,
    forget_share=0.25)
