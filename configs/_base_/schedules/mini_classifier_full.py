# As mini_classifier.py, for methods that train all weights: smaller steps.
_base_ = './mini_classifier.py'
schedule = dict(optim_wrapper=dict(optimizer=dict(lr=3e-4)))
