# Retraining from the initial weights on what is kept: the reference for all
# others. On the replay images; forgetting.retain_share = 1.0 uses all images.
# Settings and their defaults: gslora_mm/methods/retrain.py
method = dict(
    type='gslora_mm.Retrain',
    seed=0)  # of the initial weights; suites put the seed of their run here
adapter = None  # the whole model is trained
