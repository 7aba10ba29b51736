# A small Face Transformer forgets 80 of 100 people; settings find themselves.
_base_ = [
    './face-transformer_mini-faces.py',
    '../_base_/sequences/mini_faces_4x20.py',
    '../_base_/methods/gs_lora.py',
    '../_base_/schedules/auto.py',
]
