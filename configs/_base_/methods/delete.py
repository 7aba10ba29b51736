# DELETE (CVPR 2025): on forget images alone, towards what the model before the
# step says with the class itself ruled out. Batches hold no retain images.
method = dict(
    type='gslora_mm.DELETE',
    mask='own',  # or 'step': rule out all classes that the step forgets
    w_rest=1.0)  # weight of the box losses; a list has one value for each step
adapter = None  # all weights, as in the paper, with a small learning rate
