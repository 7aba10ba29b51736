# DELETE (CVPR 2025): on forget images alone, towards what the model before the
# step says with the class itself ruled out. Batches hold no retain images.
# Settings and their defaults: gslora_mm/methods/delete.py
method = dict(type='gslora_mm.DELETE')
adapter = None  # all weights, as in the paper, with a small learning rate
