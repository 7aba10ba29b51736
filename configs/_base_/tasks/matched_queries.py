# Only the queries of the objects to forget lose their class. Unlike in the
# papers, because images of mini_coco are full of objects that are to stay:
# see task.forget_queries in docs/en/configs.md.
task = dict(
    type='gslora_mm.DetectionTask',
    aux_loss=dict(retain=True),
    forget_queries='matched')
