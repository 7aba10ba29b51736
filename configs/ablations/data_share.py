# Share of the images that a step may use, the same for both halves.
suite = dict(
    title='Share of the images',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        f'share_{percent:02d}': {
            'forgetting.retain_share': percent / 100,
            'forgetting.forget_share': percent / 100
        }
        for percent in (5, 10, 25, 50)
    })
