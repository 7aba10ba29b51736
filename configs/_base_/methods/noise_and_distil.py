# Level "weights": weights mixed with initial ones, and then distilled
# from the model as it was, with what is to be forgotten painted over. Give it
# all images (forgetting.retain_share = forget_share = 1.0), and iterations.
# Settings and their defaults: gslora_mm/methods/noise_and_distil.py
method = dict(type='gslora_mm.NoiseAndDistil')
adapter = None
