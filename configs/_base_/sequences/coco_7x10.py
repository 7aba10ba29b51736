# The papers' COCO sequence: seven requests of ten categories each, drawn from
# the 80 ids in ascending order, shuffled with seed 123.
forgetting = dict(
    steps=dict(
        type='gslora_mm.ClassOrder',
        scheme='numpy',
        seed=123,
        num_steps=7,
        classes_per_step=10),
    retain_share=0.1,
    forget_share=0.1,
    sampling='random')
