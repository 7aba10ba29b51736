# GS-LoRA++ on the same people, with prototypes of the pre-trained model.
_base_ = [
    './face-transformer_mini-faces.py',
    '../_base_/sequences/mini_faces_4x20.py',
    '../_base_/methods/gs_lora_pp.py',
    '../_base_/schedules/mini_classifier.py',
]
# The form and the weights that the tables of README.md were made with.
method = dict(form='published', bound=25.0, beta=0.2, w_f=0.01, w_r=5.0)
