# Images for each class instead of a share, for GS-LoRA and GS-LoRA++.
plus_plus = '../mini/gs-lora-pp_face-transformer_mini-faces_4x20.py'
suite = dict(
    title='Images for each class',
    base='../mini/gs-lora_face-transformer_mini-faces_4x20.py',
    runs={
        f'{name}_{shots}': {
            **({'base': plus_plus} if name == 'gs_lora_pp' else {}),
            'forgetting.shots': shots,
            'forgetting.retain_share': None,
            'forgetting.forget_share': None
        }
        for name in ('gs_lora', 'gs_lora_pp') for shots in (2, 4, 8, 16)
    })
