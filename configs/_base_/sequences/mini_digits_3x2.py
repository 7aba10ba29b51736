# Three erasure requests of two digits each.
forgetting = dict(
    pretrained='work_dirs/mini_digits/pretrain/pretrained.pth',
    steps=[['zero', 'one'], ['two', 'three'], ['four', 'five']],
    retain_share=0.25,
    forget_share=0.25)
