# Level "weights": six of ten digits forgotten in three steps, so that little
# is left that fine-tuning could bring back sooner than a model that never
# learned them. Each step goes half as often around what is retained as the
# pre-training did.
_base_ = [
    './vit_mini-digits.py',
    '../_base_/sequences/mini_digits_3x2.py',
    '../_base_/levels/weights_classifier.py',
]
forgetting = dict(retain_share=1.0, forget_share=1.0)
