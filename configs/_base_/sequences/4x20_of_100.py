# The papers' sequence on 100 classes: four requests of twenty each, the list
# of classes shuffled by Python's `random` with seed 1337.
forgetting = dict(
    steps=dict(
        type='gslora_mm.ClassOrder',
        scheme='python',
        seed=1337,
        num_steps=4,
        classes_per_step=20),
    retain_share=0.1,
    forget_share=0.1,
    sampling='random')
