# The same of a classifier, as weights.py has it of a detector.
_base_ = [
    '../methods/noise_and_distil.py', '../schedules/weights_classifier.py'
]
