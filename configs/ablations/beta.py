# How much forgetting weighs beside what is retained: too little leaves
# something, too much costs what is retained.
suite = dict(
    title='Weight of the forgetting loss',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        f'beta_{beta}': {'method.beta': beta}
        for beta in (0.05, 0.1, 0.2)
    })
