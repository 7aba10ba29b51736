# Masked distillation of a classifier where no image of what is to go is left
# (forgetting.forget_share = 0): what is drawn from the model has to be pushed
# further for real images to be forgotten with it.
_base_ = './masked_distillation.py'
method = dict(w_hold=1.0, margin=6.0)
