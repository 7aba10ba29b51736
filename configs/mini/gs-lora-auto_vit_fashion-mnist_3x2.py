# A small ViT forgets six kinds of clothing; settings find themselves.
_base_ = [
    './vit_fashion-mnist.py',
    '../_base_/sequences/fashion_mnist_3x2.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/auto.py',
]
