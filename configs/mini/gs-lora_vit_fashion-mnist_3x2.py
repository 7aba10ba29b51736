# A small ViT forgets six of ten kinds of clothing in three steps; method and
# schedule are those of the digits.
_base_ = [
    './vit_fashion-mnist.py',
    '../_base_/sequences/fashion_mnist_3x2.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/mini_classifier.py',
]
method = dict(bound=10.0, beta=0.2)
