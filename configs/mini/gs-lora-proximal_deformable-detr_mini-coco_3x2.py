# The demo with a proximal group lasso: unused groups become exactly zero.
_base_ = './gs-lora_deformable-detr_mini-coco_3x2.py'
method = dict(sparsity='proximal', alpha_s=3e-2, warmup_iters=100)
