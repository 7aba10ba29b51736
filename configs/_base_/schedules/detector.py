# A detector of one's own: 300 iterations a step with batches that fit one GPU.
# On mini_coco, masked distillation and GS-LoRA forgot all of two categories.
_base_ = './mini.py'
schedule = dict(
    batch_size=4,  # 2 forget and 2 retain images
    optim_wrapper=dict(optimizer=dict(lr=3e-3)))
