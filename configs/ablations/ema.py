# Exponential moving average of the adapter: off, from the start, late.
suite = dict(
    title='Moving average of the adapter',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        'off': {'schedule.hooks': []},
        'decay_0.9': {
            'schedule.hooks':
            [dict(type='gslora_mm.AdapterEMAHook', decay=0.9)]
        },
        'decay_0.9_late': {
            'schedule.hooks': [
                dict(
                    type='gslora_mm.AdapterEMAHook',
                    decay=0.9,
                    begin_iter=200)
            ]
        },
        'decay_0.99': {
            'schedule.hooks':
            [dict(type='gslora_mm.AdapterEMAHook', decay=0.99)]
        },
    })
