# As detector.py, for methods that train all weights: smaller steps.
_base_ = './detector.py'
schedule = dict(optim_wrapper=dict(optimizer=dict(lr=3e-4)))
