# The demo with a proximal group lasso: unused groups become exactly zero.
# First forget (150 iterations), then thin out, then repair what is left.
_base_ = './gs-lora_deformable-detr_mini-coco_3x2.py'
method = dict(
    beta=0.3, sparsity='proximal', alpha_s=2e-2, warmup_iters=150)
schedule = dict(max_iters=400, param_scheduler=dict(milestones=[300]))
