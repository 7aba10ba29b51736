# The same for classifiers, whose images are smaller, and of which a batch has
# to show more classes.
_base_ = './weights.py'
schedule = dict(
    batch_size=32, optim_wrapper=dict(optimizer=dict(lr=1e-3)))
