# Level "weights": part of the way back to the initial weights, then distilled
# from the model as it was, with what is to be forgotten painted over. All
# images are used, and all weights trained, for half of the iterations that
# training took: set schedule.max_iters by that.
# Settings and their defaults: gslora_mm/methods/noise_and_distil.py
method = dict(type='gslora_mm.NoiseAndDistil')
adapter = None
forgetting = dict(retain_share=1.0, forget_share=1.0)
