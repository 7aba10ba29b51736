# Where the adapter is: FFNs (papers), attentions, or both.
suite = dict(
    title='Target of the adapter',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        'ffn': {'adapter.target': 'ffn'},
        'attention': {'adapter.target': 'attention'},
        'both': {'adapter.target': 'all'},
    })
