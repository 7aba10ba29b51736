# Detection: what happens to objects of other classes in replay images. They
# become background (papers), or stay annotated - then retain images teach
# what is to be forgotten.
suite = dict(
    title="The other classes' annotations",
    base='../mini/gs-lora_deformable-detr_mini-coco_3x2.py',
    runs={
        'drop': {'forgetting.other_annotations': 'drop'},
        'keep': {'forgetting.other_annotations': 'keep'},
        'keep_in_forget': {
            'forgetting.other_annotations': dict(forget='keep', retain='drop')
        },
        'keep_in_retain': {
            'forgetting.other_annotations': dict(forget='drop', retain='keep')
        },
    })
