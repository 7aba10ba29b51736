# The papers' four requests of twenty people each, on the drawn faces.
_base_ = './4x20_of_100.py'
forgetting = dict(
    pretrained='work_dirs/mini_faces/pretrain/pretrained.pth',
    retain_share=0.25,
    forget_share=0.25,
    sampling='balanced')
