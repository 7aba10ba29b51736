# DELETE (CVPR 2025): on forget images alone, towards what the model before the
# step says with the class itself ruled out. Batches hold no retain images.
method = dict(
    type='gslora_mm.DELETE',
    mask='own',  # or 'step': rule out all classes that the step forgets
    w_rest=1.0)  # weight of the box losses; a list has one value for each step
# The paper trains the whole model: adapter = None, with a smaller lr.
adapter = dict(rank=8, alpha=1.0, dropout=0.0, target='ffn', group_by='block')
