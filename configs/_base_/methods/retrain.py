# Retraining from the initial weights on what is kept: the reference for all
# others. On the replay images; forgetting.retain_share = 1.0 uses all images.
method = dict(
    type='gslora_mm.Retrain',
    seed=0,  # of the initial weights, the same in every step
    initial=None)  # or a stock checkpoint with them
adapter = None  # the whole model is trained
