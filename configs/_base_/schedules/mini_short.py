# As mini.py, two thirds as long: for the many runs of a benchmark.
_base_ = './mini.py'
schedule = dict(max_iters=200, param_scheduler=dict(milestones=[133]))
