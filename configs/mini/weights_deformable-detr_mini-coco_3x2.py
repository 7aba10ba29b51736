# Level "weights": six of ten digits forgotten in three steps, so that
# fine-tuning brings them back no sooner than in a model that never learned
# them. Each step sees half as many images as the pre-training has seen.
_base_ = [
    './deformable-detr_mini-coco.py',
    '../_base_/sequences/mini_coco_3x2.py',
    '../_base_/levels/weights.py',
]
forgetting = dict(retain_share=1.0, forget_share=1.0)
schedule = dict(max_iters=3000, max_epochs=None)
