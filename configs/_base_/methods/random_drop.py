# Random weights are set to zero, then what is kept is fine-tuned: a control.
method = dict(
    type='gslora_mm.RandomDrop',
    max_share=0.2,  # of each tensor a share between 0 and this is dropped
    seed=0)  # of the draw; a list has one value for each step
adapter = None  # the whole model is trained
