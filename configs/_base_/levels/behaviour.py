# The model no longer says it: one line for a sequence, method and schedule.
_base_ = ['../methods/masked_distillation.py', '../schedules/auto.py']
