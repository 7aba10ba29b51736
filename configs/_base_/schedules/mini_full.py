# As mini_short.py, for methods that train all weights: smaller steps.
_base_ = './mini_short.py'
schedule = dict(optim_wrapper=dict(optimizer=dict(lr=3e-4)))
