# Three erasure requests of two kinds of clothing each.
forgetting = dict(
    pretrained='work_dirs/fashion_mnist/pretrain/pretrained.pth',
    steps=[['T-shirt/top', 'Trouser'], ['Pullover', 'Dress'],
           ['Coat', 'Sandal']],
    retain_share=0.1,
    forget_share=0.1)
