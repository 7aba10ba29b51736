# Rank of the updates, with the scale alpha / rank as in the papers.
suite = dict(
    title='Rank of the adapter',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        'rank_2': {'adapter.rank': 2},
        'rank_4': {'adapter.rank': 4},
        'rank_8': {'adapter.rank': 8},
        'rank_16': {'adapter.rank': 16},
        'rank_32': {'adapter.rank': 32},
    })
