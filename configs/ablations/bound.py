# How far the loss on what is forgotten is driven up: a bound that is too low
# leaves something, one that is too high costs what is retained.
suite = dict(
    title='Bound of the forgetting loss',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        f'bound_{bound}': {'method.bound': float(bound)}
        for bound in (5, 10, 15, 25, 40)
    })
