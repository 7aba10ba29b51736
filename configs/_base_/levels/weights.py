# Nor can it be trained back in a few iterations: what features.py asks for,
# of weights that have been mixed with initial ones. Wants all
# images (forgetting.retain_share = 1.0, forget_share = 1.0).
_base_ = ['../methods/noise_and_distil.py', '../schedules/weights.py']
